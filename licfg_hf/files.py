"""Files that are whole or not there."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import psutil
from huggingface_hub import constants

from .errors import InputError

_UNFINISHED = re.compile(r"\.(\d+)\..*\.partial")


def user_path(name: str | Path) -> Path:
    """The path that a person means by a name, in which ``~`` is a home folder; nothing need be there."""
    if name == "":
        raise InputError("a name is empty: name a file or a folder")
    try:
        path = Path(name).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()
    except RuntimeError as error:
        what = f"no home folder of {Path(name).parts[0]}"
        raise InputError(f"{what}: write ./{name} if that is a file's name") from error
    except OSError as error:  # a name that is too long, a link that leads to itself
        raise InputError(f"there is no {name}: {error.strerror}") from error
    return path


def cache_folder(kind: str) -> Path:
    """Where one kind of things is kept: in ``$LICFG_HF_CACHE``, or ``licfg_hf`` in the Hugging Face home."""
    return user_path(os.environ.get("LICFG_HF_CACHE") or Path(constants.HF_HOME) / "licfg_hf") / kind


def require_readable(path: Path) -> None:
    """Refuses pipes and devices, which reading may not come to an end of. What is missing is left to the reader."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is {_kind(path)}: write its content to a file first")


def _kind(path: Path) -> str:
    kinds = {"a folder": path.is_dir, "a file": path.is_file, "a pipe or a device": path.exists}
    return next((kind for kind, is_so in kinds.items() if is_so()), "a link that leads nowhere")


def require_writable(path: Path, option: str, folder: bool) -> None:
    """Checks that a file or a folder can be written there, before there is anything to write; nothing is left behind.

    Neither it nor the folders around it need be there. The message names the ``option`` that named it.
    """
    whole = path.absolute()
    try:
        with suppress(FileNotFoundError):
            # As the system sees it: a name that is too long, a file where a folder should be.
            (path if folder or path.is_dir() else partial_of(path)).lstat()
        there = next(place for place in (whole, *whole.parents) if os.path.lexists(place))
        if not (there.is_file() if there == whole and not folder else there.is_dir()):
            subject = path if there == whole else f"{path}: {there}"
            raise InputError(f"{option} {subject} is {_kind(there)}: name a {'folder' if folder else 'file'}")
        with TemporaryFile(dir=there if there.is_dir() else there.parent):
            pass
    except OSError as error:
        raise InputError(f"cannot write to {option} {path}: {error.strerror}") from error
    except ValueError as error:  # a zero byte in the name
        raise error if isinstance(error, InputError) else InputError(f"{option} is not a name: {error}") from error


def to_disk(file: Any) -> None:
    """Flushes an open file to the disk itself."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flushes to the disk itself which files a folder holds."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Flushes a folder to the disk itself with all that it holds, whoever wrote it."""
    for place, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(place, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(place))


def partial_of(path: Path) -> Path:
    """The name under which this process writes ``path`` until it is complete; others may write the same file."""
    return path.with_name(f".{os.getpid()}.{path.name}.partial")


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file open for writing beside its final name; it goes to disk and is renamed at the end, or removed."""
    partial = partial_of(path)
    try:
        with open(partial, "wb") as file:
            yield file
            to_disk(file)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """A new folder beside its final name, to be filled, synced and renamed; what is left at the end is removed."""
    partial = partial_of(path)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes bytes beside their final name, to disk, and renames them."""
    with writing(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text beside its final name, to disk, and renames it."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Writes JSON beside its final name, to disk, and renames it."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def remove_unfinished(folder: Path) -> None:
    """Removes what processes that were killed had begun to write into a folder; what others still write stays.

    This process must not be writing there.
    """
    for path in folder.glob(".*.partial"):
        found = _UNFINISHED.fullmatch(path.name)
        if found is None or (int(found[1]) != os.getpid() and psutil.pid_exists(int(found[1]))):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def system_error(error: BaseException) -> OSError | None:
    """The error of the system that a library's error stands for; None where it stands for none."""
    named = re.search(r"\(os error (\d+)\)", str(error))  # safetensors names it in its words
    if named is not None:
        return OSError(int(named[1]), os.strerror(int(named[1])))
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return cause
