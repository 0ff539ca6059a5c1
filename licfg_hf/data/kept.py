"""Decoded images in the cache folder: mapped by every process that opens them again, never used when damaged."""

import os
from contextlib import suppress

import numpy as np

from ..command_line import note
from ..errors import InputError
from ..files import cache_folder, remove_unfinished, sha256_of, writing

_MOST = 32  # GiB


def _limit() -> float:
    """Bytes that all kept images may take."""
    asked = os.environ.get("LICFG_HF_IMAGE_CACHE") or _MOST
    try:
        return float(asked) * 2**30
    except ValueError:
        raise InputError(f"LICFG_HF_IMAGE_CACHE is a number of GiB, 0 for none, not {asked!r}") from None


def find_kept(source: str, shape: tuple[int, ...]) -> tuple[np.ndarray, str] | None:
    """The images that were made of a source, mapped into memory, and their SHA-256; removes damaged files."""
    if not _limit():
        return None
    for path in cache_folder("images").glob(f"{source}-*"):
        with suppress(OSError):
            sha256 = sha256_of(path)
            if path.name == f"{source}-{sha256}" and path.stat().st_size == np.prod(shape):
                os.utime(path)  # used last
                return np.memmap(path, np.uint8, "c", shape=shape), sha256
            path.unlink()
    return None


def keep(source: str, images: np.ndarray, sha256: str) -> None:
    """Keeps images that were made of a source, if that is possible, in place of those that were not used for longest.

    A process that has mapped what is removed still reads it.
    """
    folder, left = cache_folder("images"), _limit() - images.nbytes
    if left < 0:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)
        with writing(folder / f"{source}-{sha256}") as file:
            file.write(images.data)
        others = [path for path in folder.glob("[!.]*") if path.name != f"{source}-{sha256}"]
        for path in sorted(others, key=lambda path: path.stat().st_mtime_ns, reverse=True):
            left -= path.stat().st_size
            if left < 0:
                path.unlink(missing_ok=True)
    except OSError as error:
        note(
            f"decoded images cannot be kept in {folder} ({error.strerror}), so that they are decoded at every start; "
            "LICFG_HF_CACHE names another folder"
        )
