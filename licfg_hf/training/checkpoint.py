"""Checkpoints that a killed process, a full disk or a changed config cannot spoil."""

import errno
import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, TrainingDiverged
from ..files import sha256_of, sync_folder, to_disk, write_json
from ..text import first_line

STATE_FILE, DESCRIPTION_FILE = "state.pt", "training.json"
FORMAT = 2  # of a checkpoint; another number means another content of the state
_PARTIAL = ".writing-"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints ``step-N`` in ``folder``, oldest first."""
    found = [path for path in folder.glob("step-*") if path.name[5:].isdigit() and (path / DESCRIPTION_FILE).is_file()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def require_finite(state: Any, name: str = "state") -> None:
    """Raises TrainingDiverged, which names it, where a tensor in nested dictionaries and lists is not finite."""
    if isinstance(state, torch.Tensor):
        if state.is_floating_point() and not torch.isfinite(state).all():
            raise TrainingDiverged(f"{name} is not finite")
        return
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, (list, tuple)) else ()
    for key, value in items:
        require_finite(value, f"{name}.{key}")


def save_checkpoint(
    folder: Path, step: int, state: dict[str, Any], description: dict[str, Any], keep: int | None
) -> Path:
    """Writes ``folder/step-N`` under another name, flushes it to disk and renames it; keeps the newest ``keep``.

    The state is tensors, numbers, strings and nested dictionaries and lists of them; the description is JSON content.
    On OSError (the disk is full or not writable) and any other error earlier checkpoints are untouched, and nothing
    partial stays.
    """
    require_finite(state, "weights")
    try:
        final = _write(folder, step, state, description)
    except OSError as error:
        older = checkpoints(folder)[:-1]
        if error.errno not in _NO_SPACE or keep is None or not older:
            raise
        require_undamaged(checkpoints(folder)[-1])  # the only one for a moment
        for path in older:
            shutil.rmtree(path)
        final = _write(folder, step, state, description)
    if keep is not None:
        for old in checkpoints(folder)[:-keep]:
            shutil.rmtree(old)
    return final


def _write(folder: Path, step: int, state: dict[str, Any], description: dict[str, Any]) -> Path:
    final, partial = folder / f"step-{step}", folder / f"{_PARTIAL}step-{step}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        with open(partial / STATE_FILE, "wb") as file:
            torch.save(state, file)
            to_disk(file)
        of_the_state = {"bytes": (partial / STATE_FILE).stat().st_size, "sha256": sha256_of(partial / STATE_FILE)}
        write_json(partial / DESCRIPTION_FILE, {"format": FORMAT, "step": step, **of_the_state, **description})
        sync_folder(partial)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        sync_folder(folder)
    except RuntimeError as error:
        raise _cause(error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final


def _cause(error: BaseException) -> BaseException:
    """What made torch's zip writer fail, which only says that it did; of any other error, the error itself.

    Errors of a device, too, may appear while a state is written: they must not pass for a full disk.
    """
    words = ("PytorchStreamWriter failed", "[enforce fail at inline_container.cc")
    if not (isinstance(error, RuntimeError) and str(error).startswith(words)):
        return error
    return OSError(first_line(error)) if error.__context__ is None else _cause(error.__context__)


def remove_partial(folder: Path) -> None:
    for path in folder.glob(f"{_PARTIAL}*"):
        shutil.rmtree(path)


def load_description(folder: Path) -> dict[str, Any]:
    """The JSON beside a checkpoint; InputError where it is incomplete, damaged or of another version."""
    try:
        description = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        size = (folder / STATE_FILE).stat().st_size
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{folder} is not a complete checkpoint: {error}") from error
    known = isinstance(description, dict) and {"step", "bytes", "identity"} <= description.keys()
    if not (known and isinstance(description["step"], int)):
        raise InputError(f"{folder / DESCRIPTION_FILE} does not describe a checkpoint")
    found = description.get("format")
    if found != FORMAT:
        raise InputError(f"{folder} is a checkpoint of another version of licfg_hf (format {found}, not {FORMAT})")
    if size != description["bytes"]:
        raise InputError(f"{folder / STATE_FILE} is damaged: it has {size} bytes instead of {description['bytes']}")
    return description


def step_of(checkpoint: Path) -> int:
    return load_description(checkpoint)["step"]


def require_undamaged(folder: Path) -> None:
    """Checks every bit of a checkpoint's state; InputError where it is not what was written."""
    known = load_description(folder).get("sha256")
    try:
        found = sha256_of(folder / STATE_FILE)
    except OSError as error:
        raise InputError(f"{folder / STATE_FILE} cannot be read: {error.strerror}") from error
    if found != known:
        raise InputError(f"{folder / STATE_FILE} is damaged: its content has changed since it was written")


def load_state(folder: Path) -> dict[str, Any]:
    """The tensors of a checkpoint, on the CPU; nothing in the file is executed.

    An InputError says that the file is damaged, or holds more than tensors.
    """
    path = folder / STATE_FILE
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's words advise to run what is in it
        raise InputError(f"{path} cannot be read: it is damaged, or holds more than tensors and numbers") from error
    except (OSError, RuntimeError, zipfile.BadZipFile, EOFError, ValueError, LookupError) as error:
        reason = str(error).split("\n")[0].split(". ")[0]
        raise InputError(f"{path} cannot be read: {reason}") from error
    if not isinstance(state, dict):
        raise InputError(f"{path} is not the state of a training")
    return state
