"""YAML files of options: those of ``--config``, presets and recipes."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError
from ..files import require_readable, user_path
from ..text import first_line

_LARGEST_FILE = 2**20  # bytes; a recipe has some hundred options
_MOST_VALUES = 100_000  # of a file, its aliases counted wherever they stand


class _Loader(yaml.SafeLoader):
    """As in YAML 1.2, 2e-4 is a number, and a name that stands twice, of which YAML 1.1 takes the last, is refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Works as in PyYAML."""
        names = [name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"it has {twice} twice")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_options(path: Path | str, called: str) -> dict[str, Any]:
    """The mapping that a YAML file holds, made of what JSON knows; messages name the file as it is ``called``."""
    place = user_path(path)
    require_readable(place)
    try:
        with place.open("rb") as file:
            raw = file.read(_LARGEST_FILE + 1)
        if len(raw) > _LARGEST_FILE:
            raise InputError(f"{called} is larger than {_LARGEST_FILE:,} bytes: it is not a file of options")
        content = yaml.load(raw.decode("utf-8"), _Loader)  # safe: the loader makes plain values only
    except OSError as error:
        raise InputError(f"cannot read {called}: {error.strerror}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{called} is not YAML: {first_line(error)}") from error
    content = {} if content is None else content
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise InputError(f"{called} holds no options: each is a line such as max_steps: 1000")
    if _values(content) > _MOST_VALUES:
        raise InputError(f"{called} holds more than {_MOST_VALUES:,} values: it is not a file of options")
    try:
        return json.loads(json.dumps(content))
    except (TypeError, ValueError) as error:
        raise InputError(f"{called} holds something that is not an option: {error}") from error


def _values(content: Any) -> int:
    """How many values there are; counting ends soon after there are too many, or where they hold themselves."""
    left, count = [content], 0
    while left and count <= _MOST_VALUES:
        value = left.pop()
        count += 1
        if isinstance(value, (dict, list)):
            left.extend(value.values() if isinstance(value, dict) else value)
    return count
