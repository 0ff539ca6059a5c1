"""Files that are whole or not there."""

import json
import os
from pathlib import Path
from typing import Any


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
