"""The words of a recipe's command line: files of options, unknown options, refusals in words, the output folder."""

import hashlib
import json
import os
import re
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from ..command_line import require_no_more
from ..errors import InputError
from ..files import require_readable, user_path
from ..training import TrainingConfig

_LARGEST_FILE = 2**20  # bytes; a recipe has some hundred options
_MOST_VALUES = 100_000  # of a file, its aliases counted wherever they stand
_LONGEST_NAME = 120  # of an output folder
# What does not make another run, beside what a resumed run may change.
_SAME_RUN = {"config", "preset", "in_memory_limit", *TrainingConfig.RESUMABLE}
_TYPES = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a finite number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "a text",
}


def with_files_read(words: list[str]) -> list[str]:
    """The command line with the content of each ``--config`` in place of its name, so that it is read once.

    Raises:
        InputError: a file cannot be read, or holds no options.
    """
    found, words = [], list(words)
    while words:
        word = words.pop(0)
        if word == "--config" and words:
            word = f"--config={words.pop(0)}"
        name, equals, path = word.partition("=")
        found.append(f"--config={_content(path)}" if name == "--config" and equals else word)
    return found


def read_yaml(text: str) -> dict[str, Any]:
    """A YAML mapping of options, as ``with_files_read`` left it."""
    return json.loads(text)


class _Loader(yaml.SafeLoader):
    """Refuses a name that stands twice among the options, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As in PyYAML."""
        names = [name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"{twice} stands in it twice")
        return super().construct_mapping(node, deep)


def _content(path: str) -> str:
    place = user_path(path)
    require_readable(place)
    try:
        with place.open("rb") as file:
            raw = file.read(_LARGEST_FILE + 1)
        if len(raw) > _LARGEST_FILE:
            raise InputError(f"--config {path} is larger than {_LARGEST_FILE:,} bytes: it is no file of options")
        content = yaml.load(raw.decode("utf-8"), _Loader)
    except OSError as error:
        raise InputError(f"cannot read --config {path}: {error.strerror}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"--config {path} is no YAML: {reason}") from error
    content = {} if content is None else content
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise InputError(f"--config {path} holds no options: each is a line such as max_steps: 1000")
    if _values(content) > _MOST_VALUES:
        raise InputError(f"--config {path} holds more than {_MOST_VALUES:,} values: it is no file of options")
    try:
        return json.dumps(content)
    except (TypeError, ValueError) as error:
        raise InputError(f"--config {path} holds something that is no option: {error}") from error


def _values(content: Any) -> int:
    """How many values there are; counting ends soon after there are too many, or where they hold themselves."""
    left, count = [content], 0
    while left and count <= _MOST_VALUES:
        value = left.pop()
        count += 1
        if isinstance(value, (dict, list)):
            left.extend(value.values() if isinstance(value, dict) else value)
    return count


def require_known(words: list[str], parser: ArgumentParser) -> None:
    """Refuses an option that is none, also the first letters of one.

    Raises:
        InputError: there is one.
    """
    options = parser._option_string_actions

    def is_known(word: str) -> bool:
        name = word.partition("=")[0].removesuffix("+")
        # `--generator_optimizer.arguments.eps` sets a part of an option.
        return any(name == option or name.startswith(f"{option}.") for option in options)

    require_no_more([word for word in words if word.startswith("--") and not is_known(word)], options)


def in_words(message: str) -> str:
    """What the parser says, in terms of the command line."""
    message = " ".join(message.split())
    found = re.fullmatch(r"(?:Parser key|[Kk]ey) ['\"](\S+?)['\"]:?(?: is)? ?(.*)", message)
    if found is None:
        return f"{message[:1000]} (see --help)"
    name, reason = found.groups()
    literal = re.search(r"Expected a typing\.Literal\[(.*?)\]\. Got value: (.*)", reason)
    plain = re.match(r"Expected a (<class '\w+'>)\. Got value: (.*)", reason)
    if literal:
        reason = f"is one of {literal[1].replace(chr(39), '')}, not {literal[2]}"
    elif plain and plain[1] in _TYPES:
        reason = f"is {_TYPES[plain[1]]}, not {plain[2]}"
    return f"--{name} {reason[:1000]} (see --help)"


def derived_folder(stem: str, options: Namespace, defaults: Namespace) -> str:
    """The output folder of a run that was given none: another one for each run that is another.

    Args:
        stem: of a run with the defaults.
        options: of the run.
        defaults: of its preset.
    """
    values, usual = _flat(options), _flat(defaults)
    parts = [f"-{name}_{_short(values[name])}" for name in values if _short(values[name]) != _short(usual.get(name))]
    ending = "".join(parts)
    if len(ending) > _LONGEST_NAME:
        ending = f"{ending[:_LONGEST_NAME]}-{hashlib.sha256(ending.encode()).hexdigest()[:8]}"
    return stem + ending


def _flat(options: Namespace) -> dict[str, Any]:
    """The options that make a run another one; of a path, such as that of the data, the last part counts."""
    found = {name: value for name, value in vars(options.clone()).items()}
    flat: dict[str, Any] = {}
    for name, value in found.items():
        nested = _flat(value) if isinstance(value, Namespace) else None
        flat |= {name: value} if nested is None else {f"{name}.{inner}": one for inner, one in nested.items()}
    return {name: value for name, value in flat.items() if name not in _SAME_RUN}


def _short(value: Any) -> str:
    """A value as a part of a file name."""
    text = os.path.basename(value.rstrip("/")) if isinstance(value, str) else json.dumps(value, default=str)
    return re.sub(r"[^\w.+-]+", "_", text).strip("_") or "none"
