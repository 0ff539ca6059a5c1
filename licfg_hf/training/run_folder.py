"""The output folder of a run: who may write into it, and which checkpoint a run goes on from."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import FolderInUse, InputError
from ..evaluation.report import report_files
from ..evaluation.result import RESULT_FILE
from ..evaluation.samples import weights_of
from ..files import remove_unfinished, require_writable, user_path, write_json
from ..staging import finish_update
from .checkpoint import DESCRIPTION_FILE, checkpoints, load_description, remove_partial, require_undamaged, step_of
from .config import TrainingConfig

_ONLY_OF_EXPORTS = ("samples.png", "samples_moved.png", "flow/flow.json", "flow/discriminator-*/*", "*/*.index.json")


def claim_folder(folder: Path, config: TrainingConfig, identity: dict[str, Any], facts: dict[str, Any]) -> Path | None:
    """Creates or checks the output folder and writes ``training.json``, with identity and facts, into it.

    Returns the checkpoint to resume from, if any. An InputError says that the folder cannot be written, or that it or
    the checkpoint is not of this run; FolderInUse that another process trains there.
    """
    require_writable(folder, "output_dir", folder=True)
    folder.mkdir(parents=True, exist_ok=True)
    description = folder / DESCRIPTION_FILE
    if _is_occupied(folder) and not description.is_file():
        raise InputError(
            f"output_dir {folder} holds files of something other than a training run: choose an empty or new one"
        )
    with folder_lock(folder):
        for place in (folder, folder / "samples", folder / "best", folder / "flow"):
            remove_unfinished(place)
        remove_partial(folder / "checkpoints")
        finish_update(folder)
        if config.resume == "never" and _is_occupied(folder):
            raise InputError(f"output_dir {folder} is not empty, and --resume never needs an empty one")
        source = _source(folder, config, identity)
        if not _holds_finished_model(description, identity):  # else it says what that is, until a longer run ends
            write_json(description, {"identity": identity, **facts})
        return source


def _is_occupied(folder: Path) -> bool:
    return any(path.name[0] != "." for path in folder.iterdir())


def _source(folder: Path, config: TrainingConfig, identity: dict[str, Any]) -> Path | None:
    # Without a checkpoint nothing was trained yet, and other settings spoil nothing.
    source = newest = _newest_good(folder / "checkpoints", identity)
    if config.resume not in ("auto", "never"):
        source = user_path(config.resume)
        require_undamaged(source)
        _require_same_identity(load_description(source), identity, source)
        if newest is not None and step_of(newest) > step_of(source):
            raise InputError(
                f"{folder} has newer checkpoints than {source.name}: choose another --output_dir, or remove them"
            )
    if source is not None and step_of(source) > config.max_steps:
        raise InputError(f"{source} is at step {step_of(source)} already, past max_steps {config.max_steps}")
    return source


def _newest_good(folder: Path, identity: dict[str, Any]) -> Path | None:
    """The newest checkpoint that can be used; newer ones that cannot be are set aside."""
    unusable: list[tuple[Path, InputError]] = []
    for checkpoint in reversed(checkpoints(folder)):
        try:
            require_undamaged(checkpoint)
        except InputError as error:
            unusable.append((checkpoint, error))
            continue
        _require_same_identity(load_description(checkpoint), identity, folder.parent)
        for path, error in unusable:
            aside = path.with_name(f"unusable-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            print(f"WARNING: {error}; it is now {aside.name}, going on from {checkpoint.name}", file=sys.stderr)
        return checkpoint
    if unusable:
        raise InputError(
            f"{unusable[0][1]}, and no other checkpoint can be used: remove {folder} to train from the beginning"
        )
    return None


@contextmanager
def folder_lock(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Keeps other processes from training in an output folder: they get FolderInUse.

    The system lets go of it if this process is killed. Where the file system has no locks, nobody is kept out.
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
            with suppress(FolderInUse), folder_lock(folder):
                if {path.name for path in folder.iterdir()} <= {".lock", ".study.lock", DESCRIPTION_FILE}:
                    shutil.rmtree(folder)
            with suppress(OSError):  # somebody else's files are in it by now
                for place in new[1:]:
                    place.rmdir()
        raise


def is_lost(folder: Path, handle: int) -> bool:
    """True if another folder than the one that is open as ``handle``, or none, has its name by now."""
    try:
        return not os.path.samestat(os.stat(folder), os.fstat(handle))
    except FileNotFoundError:
        return True


def place_of(handle: int) -> Path | None:
    """The present path of an open folder; None if it was removed, or if the system does not tell."""
    try:
        place = Path(os.readlink(f"/proc/self/fd/{handle}"))
    except OSError:
        return None
    return place if place.is_dir() else None


def superseded(folder: Path, exported: Path) -> list[str]:
    """An earlier export's files in a folder that the new one does not replace, by their paths in it."""
    known = [path for pattern in _ONLY_OF_EXPORTS for path in folder.glob(pattern)]
    known += [folder / name for name in weights_of(folder)]
    if (exported / RESULT_FILE).exists():
        known += report_files(folder)
    names = {path.relative_to(folder).as_posix() for path in known if path.is_file()}
    return sorted(name for name in names if not (exported / name).exists())


def other_circumstances(description: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    """Lists the processes, threads, device and versions that differ from those when a checkpoint was written."""
    names = ("device", "processes", "threads", "versions")
    return [line for name in names for line in _differences(description.get(name), facts.get(name), name)]


def _holds_finished_model(description: Path, identity: dict[str, Any]) -> bool:
    """True if training.json says of which step of this run the model in the folder is."""
    try:
        known = json.loads(description.read_text(encoding="utf-8"))
        return known["identity"] == identity and known.get("step") is not None
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _require_same_identity(description: dict[str, Any], ours: dict[str, Any], where: Path) -> None:
    changed = _differences(description["identity"], ours)
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise InputError(
            f"choose another --output_dir: {where} is of another run ({'; '.join(changed[:3])}{more}); a resumed "
            "run may change only its length, its logging and its saving"
        )


def _differences(theirs: Any, ours: Any, name: str = "") -> list[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        pairs = [(key, theirs.get(key), ours.get(key)) for key in sorted(set(theirs) | set(ours))]
        return [line for key, then, now in pairs for line in _differences(then, now, f"{name}.{key}".strip("."))]
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return [line for pair in zip(theirs, ours, strict=True) for line in _differences(*pair, name)]
    return [] if theirs == ours else [f"{name}: {_brief(theirs, ours)} there, {_brief(ours, theirs)} here"]


def _brief(value: Any, other: Any) -> str:
    """A value; of a long text only the parts between commas that the other one lacks."""
    text = str(value)
    parts = [part for part in text.split(", ") if part not in str(other).split(", ")]
    return text if len(text) < 60 or not parts else ", ".join(parts)[:200]
