"""The small files of a model folder, as text and as data; whatever is wrong with one is said in a line."""

import json
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError
from ..files import require_readable
from .board import one_line
from .results import RESULT_FILES


def unreadable(path: Path, error: OSError) -> InputError:
    """What to raise where a file cannot be read."""
    return InputError(f"{path} cannot be read: {error.strerror}")


def read(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file, with the line ends that it has.

    Raises:
        InputError: it cannot be read, or is no UTF-8 text; the message is one line.
    """
    require_readable(path)
    try:
        with path.open(encoding=encoding, newline="") as file:
            return file.read()
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged: it is no UTF-8 text") from error


def parse(name: str, text: str) -> Any:
    """JSON or YAML content, by the end of the file's name.

    Raises:
        InputError: it is damaged; the message is one line.
    """
    try:
        content = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{name} is damaged: {one_line(str(error))}") from error
    if name in ("training.json", *RESULT_FILES) and not isinstance(content, dict):
        raise InputError(f"{name} is damaged: it is no JSON object")
    return content


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        InputError: there is none; the message is one line.
    """
    content = parse(str(path), read(path))
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: it is no JSON object")
    return content
