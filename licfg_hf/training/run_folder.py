"""The output folder of a run: who may write into it, and which checkpoint a run goes on from."""

import json
from pathlib import Path
from typing import Any

from ..errors import InputError
from .checkpoint import DESCRIPTION_FILE, checkpoints, load_description, remove_partial, write_json


def claim_folder(folder: Path, resume: str, identity: dict[str, Any], facts: dict[str, Any]) -> Path | None:
    """Creates or checks the output folder and writes ``training.json`` into it.

    Args:
        resume: ``auto``, ``never`` or the folder of a checkpoint.
        identity: what makes the run this run, as JSON content; a folder or checkpoint of another one is refused.
        facts: further content of ``training.json``.

    Returns:
        The checkpoint to resume from, or None.

    Raises:
        InputError: the folder cannot be written, is not of this run, or the checkpoint is not one of this run.
    """
    _require_writable(folder)
    description = folder / DESCRIPTION_FILE
    occupied = any(folder.iterdir())
    if resume == "never" and occupied:
        raise InputError(f"output_dir {folder} is not empty and --resume never wants a fresh one")
    if occupied and not description.is_file():
        raise InputError(
            f"output_dir {folder} holds files that are not of a training run: choose an empty or new folder"
        )
    if occupied:
        _require_same_identity(_identity_in(description), identity, folder)
    checkpoint_folder = folder / "checkpoints"
    remove_partial(checkpoint_folder)
    known = checkpoints(checkpoint_folder)
    source = known[-1] if known else None
    if resume not in ("auto", "never"):
        source = Path(resume).expanduser()
        found = load_description(source)
        _require_same_identity(found["identity"], identity, source)
        if known and int(known[-1].name[5:]) > found["step"]:
            raise InputError(
                f"{folder} has newer checkpoints than {source.name}: choose another --output_dir, or remove them"
            )
    write_json(description, {"identity": identity, **facts})
    return source


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write to output_dir {folder}: {error.strerror}") from error


def _identity_in(description: Path) -> dict[str, Any]:
    try:
        return json.loads(description.read_text(encoding="utf-8"))["identity"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{description} is not that of a training run: {error!r}") from error


def _require_same_identity(theirs: dict[str, Any], ours: dict[str, Any], where: Path) -> None:
    changed = _differences(theirs, ours)
    if changed:
        raise InputError(
            f"{where} is of a run with other settings ({'; '.join(changed[:4])}): choose another --output_dir. "
            "A resumed run may change only its length and what it logs and saves"
        )


def _differences(theirs: Any, ours: Any, name: str = "") -> list[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = sorted(set(theirs) | set(ours))
        return [
            line for key in keys for line in _differences(theirs.get(key), ours.get(key), f"{name}.{key}".strip("."))
        ]
    return [] if theirs == ours else [f"{name}: {theirs} there, {ours} here"]
