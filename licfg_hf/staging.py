"""Several files of a folder replaced in one step: a process that is killed leaves all the old ones or all the new.

The new files are written into a hidden folder, and its renaming is the step. Then each goes to its place. A process
that is killed on the way leaves the rest to whoever opens the folder next, see ``finish_update``.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from .errors import InputError
from .files import partial_folder, sync_folder, sync_tree, write_json

_READY = ".update"  # all of it is on the disk
_REMOVED = ".removed.json"


@dataclass
class Update:
    """New files of a folder."""

    place: Path  # where they are written, each under its path in the folder
    removed: list[str] = field(default_factory=list)  # files of the folder that go, by their paths in it


@contextmanager
def updated(folder: Path) -> Iterator[Update]:
    """Replaces files of a folder at the end of the block, all together; nothing changes where it ends in an error."""
    finish_update(folder)
    with partial_folder(folder / "update") as partial:
        update = Update(partial)
        yield update
        # What is replaced is not removed: a second try to finish would take the new file.
        write_json(partial / _REMOVED, [name for name in update.removed if not (partial / name).exists()])
        sync_tree(partial)
        partial.rename(folder / _READY)
        sync_folder(folder)
    finish_update(folder)


def finish_update(folder: Path) -> None:
    """Puts into place what a killed process had ready; several processes may do it at once."""
    ready = folder / _READY
    if not ready.is_dir():
        return
    try:
        for name in _removed(ready):
            _inside(folder, name).unlink(missing_ok=True)
        for path in sorted(ready.rglob("*")):
            name = path.relative_to(ready)
            if path.is_file() and name.name != _REMOVED:
                target = _inside(folder, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # another process was faster
                    path.replace(target)
        for place in {_inside(folder, name).parent for name in _removed(ready)} - {folder}:
            with suppress(OSError):  # other files are in it
                place.rmdir()
        # The new names must be on the disk before the update is forgotten.
        for place in {folder, *(folder / path.relative_to(ready) for path in ready.rglob("*") if path.is_dir())}:
            sync_folder(place)
        shutil.rmtree(ready, ignore_errors=True)
    except OSError as error:
        raise InputError(f"the last export into {folder} is not in place yet: {error.strerror or error}") from error


def _removed(ready: Path) -> list[str]:
    try:
        return json.loads((ready / _REMOVED).read_text(encoding="utf-8"))
    except FileNotFoundError:  # the process was killed while it removed the folder of the update
        return []


def _inside(folder: Path, name: str | Path) -> Path:
    """A file of the folder; a stranger's folder must not reach others."""
    path = folder / name
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"the last export into {folder} names a file outside it, {name}: remove {folder / _READY}")
    return path
