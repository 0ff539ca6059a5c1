"""The output folder of a run: who may write into it, and which checkpoint a run goes on from."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import FolderInUse, InputError
from ..files import write_json
from .checkpoint import DESCRIPTION_FILE, checkpoints, load_description, remove_partial
from .config import TrainingConfig


def claim_folder(folder: Path, config: TrainingConfig, identity: dict[str, Any], facts: dict[str, Any]) -> Path | None:
    """Creates or checks the output folder and writes ``training.json`` into it.

    Args:
        config: says how to resume and how far to train.
        identity: what makes the run this run, as JSON content; a folder or checkpoint of another one is refused.
        facts: further content of ``training.json``.

    Returns:
        The checkpoint to resume from, or None.

    Raises:
        InputError: the folder cannot be written, is not of this run, or the checkpoint is not one of this run.
        FolderInUse: another process trains there.
    """
    _require_writable(folder)
    with held(folder):
        return _claim(folder, config, identity, facts)


def _claim(folder: Path, config: TrainingConfig, identity: dict[str, Any], facts: dict[str, Any]) -> Path | None:
    description = folder / DESCRIPTION_FILE
    occupied = any(path.name[0] != "." for path in folder.iterdir())
    if config.resume == "never" and occupied:
        raise InputError(f"output_dir {folder} is not empty and --resume never wants a fresh one")
    if occupied and not description.is_file():
        raise InputError(f"output_dir {folder} holds files that are not of a training run: choose an empty or new one")
    checkpoint_folder = folder / "checkpoints"
    remove_partial(checkpoint_folder)
    known = checkpoints(checkpoint_folder)
    if known:  # without a checkpoint nothing was trained yet, and other settings spoil nothing
        _require_same_identity(load_description(known[-1]), identity, folder)
    source = known[-1] if known else None
    if config.resume not in ("auto", "never"):
        source = Path(config.resume).expanduser()
        _require_same_identity(load_description(source), identity, source)
        if known and _step(known[-1]) > _step(source):
            raise InputError(
                f"{folder} has newer checkpoints than {source.name}: choose another --output_dir, or remove them"
            )
    if source is not None and _step(source) > config.max_steps:
        raise InputError(f"{source} is at step {_step(source)} already, past max_steps {config.max_steps}")
    write_json(description, {**_finished(description, identity), "identity": identity, **facts})
    return source


@contextmanager
def held(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Keeps other processes from training in an output folder; the system lets go of it if this one is killed.

    Where the file system has no locks, nobody is kept out.

    Raises:
        FolderInUse: another process trains there.
    """
    lock = FileLock(folder / name)
    try:
        with suppress(NotImplementedError):
            lock.acquire(timeout=0)
    except Timeout:
        raise FolderInUse(f"another process trains in {folder}: wait for it, or choose another --output_dir") from None
    try:
        yield
    finally:
        lock.release()


def _finished(description: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """What training.json says of the model that lies in the folder, until a longer run replaces it."""
    try:
        known = json.loads(description.read_text(encoding="utf-8"))
        same = known["identity"] == identity
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {name: known[name] for name in ("step", "device_seconds") if name in known} if same else {}


def _step(checkpoint: Path) -> int:
    return load_description(checkpoint)["step"]


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to output_dir {folder}: {error.strerror}") from error


def _require_same_identity(description: dict[str, Any], ours: dict[str, Any], where: Path) -> None:
    changed = _differences(description["identity"], ours)
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
