"""The output folder of a run: who may write into it, and which checkpoint a run goes on from."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import FolderInUse, InputError
from ..files import require_writable, write_json
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
    require_writable(folder, "output_dir", folder=True)
    folder.mkdir(parents=True, exist_ok=True)
    if any(path.name[0] != "." for path in folder.iterdir()) and not (folder / DESCRIPTION_FILE).is_file():
        raise InputError(f"output_dir {folder} holds files that are not of a training run: choose an empty or new one")
    with held(folder):
        return _claim(folder, config, identity, facts)


def _claim(folder: Path, config: TrainingConfig, identity: dict[str, Any], facts: dict[str, Any]) -> Path | None:
    description = folder / DESCRIPTION_FILE
    occupied = any(path.name[0] != "." for path in folder.iterdir())
    if config.resume == "never" and occupied:
        raise InputError(f"output_dir {folder} is not empty and --resume never wants a fresh one")
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


@contextmanager
def refused_leaves_nothing(folder: Path) -> Iterator[None]:
    """A run that is refused while it is set up leaves no folder where there was none."""
    new = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    try:
        yield
    except InputError as error:
        if new and os.path.isdir(folder) and not isinstance(error, FolderInUse):
            with suppress(FolderInUse), held(folder):
                if {path.name for path in folder.iterdir()} <= {".lock", ".study.lock", DESCRIPTION_FILE}:
                    shutil.rmtree(folder)
            with suppress(OSError):  # somebody else's files are in it by now
                for place in new[1:]:
                    place.rmdir()
        raise


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


def _require_same_identity(description: dict[str, Any], ours: dict[str, Any], where: Path) -> None:
    changed = _differences(description["identity"], ours)
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise InputError(
            f"choose another --output_dir: {where} is of another run ({'; '.join(changed[:3])}{more}), and a run that "
            "goes on may change only its length and what it logs and saves"
        )


def _differences(theirs: Any, ours: Any, name: str = "") -> list[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = sorted(set(theirs) | set(ours))
        return [
            line for key in keys for line in _differences(theirs.get(key), ours.get(key), f"{name}.{key}".strip("."))
        ]
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return [line for pair in zip(theirs, ours, strict=True) for line in _differences(*pair, name)]
    return [] if theirs == ours else [f"{name}: {_brief(theirs, ours)} there, {_brief(ours, theirs)} here"]


def _brief(value: Any, other: Any) -> str:
    """A value; of a long text only the parts between commas that the other one lacks."""
    text = str(value)
    parts = [part for part in text.split(", ") if part not in str(other).split(", ")]
    return text if len(text) < 60 or not parts else ", ".join(parts)[:200]
