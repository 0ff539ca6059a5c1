"""Rows of local runs, with a picture of their samples."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from ..evaluation.result import Result
from ..text import one_line
from .board import Notes
from .entries import Entry, Wanted, entry_of, last_part
from .hub_models import REPOSITORY

_PICTURES = ("samples.png", "report/samples.png")


def local_entries(runs: Sequence[tuple[Path, Result]], wanted: Wanted, notes: Notes) -> list[Entry]:
    """Rows of runs; what does not belong on the board becomes a note.

    Args:
        runs: ``eval.json`` files, or folders that hold one, and what they say.

    Raises:
        InputError: a protocol cannot be shown as it is.
    """
    entries, seen = [], set()
    for run, result in runs:
        folder = run if run.is_dir() else run.parent
        name = one_line(folder.resolve().name if wanted.public else run)
        if run.resolve() in seen:
            notes.own.append(f"{name} was named twice")
        elif not wanted.is_of(result.protocol):
            reference = data_name(result.protocol.reference, wanted.public)
            notes.own.append(f"{name} was measured against {reference}: left out")
        elif wanted.metric not in result.metrics:
            notes.own.append(f"{name} has no {wanted.metric}: left out")
        else:
            entry = entry_of("local", last_part(result.name) if wanted.public else result.name, result, wanted)
            entries.append(replace(entry, row=replace(entry.row, picture=thumbnail(folder))))
        seen.add(run.resolve())
    return entries


def data_name(name: str, public: bool) -> str:
    """A data set as people see it; in public without the folders that it lies in, but with the owner on the Hub."""
    on_the_hub = REPOSITORY.fullmatch(name) and not Path(name).exists()
    return one_line(name if on_the_hub or not public else last_part(name))


def thumbnail(folder: Path, size: int = 256) -> bytes | None:
    """The upper left part of a run's sample grid as a JPEG file; None where there is no grid that can be read.

    Args:
        size: height and width in pixels of the part, at most.
    """
    path = next((folder / name for name in _PICTURES if (folder / name).is_file()), None)
    if path is None:
        return None
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            if picture.width * picture.height > 2**25:
                return None
            part = picture.convert("RGB").crop((0, 0, min(size, picture.width), min(size, picture.height)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    buffer = io.BytesIO()
    part.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()
