"""Files that are whole or not there."""

import json
import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from .errors import InputError


def require_writable(path: Path, option: str, folder: bool) -> None:
    """Checks that something can be written there, before there is anything to write; nothing is left behind.

    Args:
        path: file or folder; it and the folders that it lies in need not be there.
        option: that named it, for the message.
        folder: whether it is to be a folder.

    Raises:
        InputError: it cannot be written, or is the other of file and folder.
    """
    try:
        if path.exists() and path.is_dir() != folder:
            raise InputError(f"{option} {path} is a {'file: name a folder' if folder else 'folder: name a file'}")
        with suppress(FileNotFoundError):
            path.lstat()  # as the system sees it: a name that is too long, a file where a folder should be
        place = next(place for place in (path.absolute(), *path.absolute().parents) if place.is_dir())
        with TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise InputError(f"cannot write to {option} {path}: {error.strerror}") from error
    except ValueError as error:  # a zero byte in the name
        raise error if isinstance(error, InputError) else InputError(f"{option} is no name: {error}") from error


def to_disk(file: Any) -> None:
    """Flushes an open file to the disk itself."""
    file.flush()
    os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text beside its final name, to disk, and renames it."""
    partial = path.with_name(f".{os.getpid()}.{path.name}.partial")  # another process may write the same file
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
        to_disk(file)
    partial.replace(path)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON beside its final name, to disk, and renames it."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
