"""Decoded images in the cache folder: mapped by every process that opens them again, never used when damaged."""

from contextlib import suppress

import numpy as np

from ..command_line import note
from ..files import cache_folder, remove_unfinished, sha256_of, writing


def find_kept(source: str, shape: tuple[int, ...]) -> tuple[np.ndarray, str] | None:
    """The images that were made of a source, mapped into memory, and their SHA-256; removes damaged files."""
    for path in cache_folder("images").glob(f"{source}-*"):
        with suppress(OSError):
            sha256 = sha256_of(path)
            if path.name == f"{source}-{sha256}" and path.stat().st_size == np.prod(shape):
                return np.memmap(path, np.uint8, "c", shape=shape), sha256
            path.unlink()
    return None


def keep(source: str, images: np.ndarray, sha256: str) -> None:
    """Keeps images that were made of a source, if that is possible."""
    folder = cache_folder("images")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)
        with writing(folder / f"{source}-{sha256}") as file:
            file.write(images.data)
    except OSError as error:
        note(
            f"decoded images cannot be kept in {folder} ({error.strerror}), so that they are decoded at every start; "
            "LICFG_HF_CACHE names another folder"
        )
