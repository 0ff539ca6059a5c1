"""Checkpoints of other code bases as this library's networks: one file per format."""

from importlib import import_module
from pathlib import Path

from ..errors import InputError
from ..files import user_path
from ..text import printable
from .formats import FORMATS

__all__ = ["FORMATS", "convert"]


def convert(source: str, input: str | Path, output: str | Path, config: str | Path | None = None) -> list[str]:
    """Turns a foreign checkpoint into a folder for ``from_pretrained``.

    A generator becomes a pipeline folder (its network in ``model/``, for DDGAN in ``unet/``), a discriminator a model
    folder, a file with both a pipeline folder with ``discriminator/``. Which of them it is follows from the keys.

    Args:
        source: who wrote the checkpoint, one of ``FORMATS``.
        input: the file, from ``torch.save`` or safetensors. No code in it is run.
        output: new or empty folder.
        config: JSON file with the reference's own options; needed where the keys do not tell the network.

    Returns:
        Lines that tell the user what was written and how it is loaded.

    Raises:
        InputError: the file cannot be read or does not fit; nothing is written then. The message is one line.
    """
    try:
        return [printable(line) for line in _convert(source, user_path(input), user_path(output), config)]
    except InputError as error:  # names in foreign files can hold anything
        raise InputError(printable(str(error))) from error


def _convert(source: str, input: Path, output: Path, config: str | Path | None) -> list[str]:
    # Imported here, so that the command line can list the formats without waiting for PyTorch.
    from .reading import read_checkpoint, read_options
    from .writing import require_free, write

    if source not in FORMATS:
        raise InputError(f"there is no format {source!r}; there are: {', '.join(FORMATS)}")
    require_free(output)
    options = None if config is None else read_options(user_path(config))
    readers = {name: import_module(f".formats.{name.replace('-', '_')}", __name__) for name in FORMATS}
    reader = readers[source]
    checkpoint = read_checkpoint(input, getattr(reader, "EXTRA_TYPES", ()))
    parted = checkpoint.parted()
    if not any(map(reader.kind, checkpoint.states.values())):
        if not any(map(reader.kind, parted.states.values())):
            states = [*checkpoint.states.values(), *parted.states.values()]
            raise InputError(f"{input} {_unknown(source, states, readers)}")
        checkpoint = parted
    try:
        networks = reader.convert(checkpoint, options)
    except InputError as error:
        raise InputError(f"{input} cannot be converted: {error}") from error
    lines = write(networks, output, source, input)
    if options is not None and networks.options is None:
        lines.insert(1, "the config was not used: the keys determine the network")
    return lines


def _unknown(source: str, states: list, readers: dict) -> str:
    """Why a file is none of a format, and of which it seems to be."""
    if other := next((name for name, reader in readers.items() if any(map(reader.kind, states))), None):
        return f"is not a checkpoint of {source}: its keys are those of {other}, so pass --from {other}"
    if not states:
        return "holds no weights: it has no dictionary of tensors"
    first = next(key for state in states for key in state)
    return f"is not a checkpoint of {source} or of another known format; it has {first} and the like"
