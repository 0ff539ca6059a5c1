"""The words of a recipe's command line: files of options, unknown options, refusals in words, the output folder."""

import hashlib
import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from ..command_line import require_no_more
from .option_files import read_options
from .outline import outline

_LONGEST_NAME = 120  # of an output folder
# What does not make another run, beside what a resumed run may change.
_HUB = {"push_to_hub", "repo_id", "hub_private"}
_SAME_RUN = {"config", "preset", "import", "in_memory_limit", *_HUB}
_TYPES = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a finite number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "a text",
    "<class 'list'>": "a list, written '[a, b]'",
    "<class 'dict'>": "names with values, written '{name: value}'",
    "<class 'NoneType'>": "null",
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
        if name == "--config" and equals:
            word = f"--config={json.dumps(read_options(path, f'--config {path}'))}"
        found.append(word)
    return found


def as_trackers(words: list[str]) -> list[str]:
    """``--report_to wandb``, as other trainers of the Hugging Face stack call it, as the option ``--trackers``."""
    found, left = [], list(words)
    while left:
        name, equals, value = left.pop(0).partition("=")
        if name.replace("-", "_") != "__report_to":
            found.append(name + equals + value)
            continue
        value = value if equals else (left.pop(0) if left else "")
        names = [part.strip() for part in value.strip("[]").split(",")]
        found.append(f"--trackers={json.dumps(names)}")
    return found


def read_yaml(text: str) -> dict[str, Any]:
    """A YAML mapping of options, as ``with_files_read`` left it."""
    return json.loads(text)


def imports_in_files(words: list[str]) -> list[str]:
    """The modules that the option ``import`` names in the files of options, after ``with_files_read``."""
    found: list[str] = []
    for word in words:
        name, _, text = word.partition("=")
        asked = read_yaml(text).get("import") or [] if name == "--config" else []
        found += [asked] if isinstance(asked, str) else [str(module) for module in asked]
    return found


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
    """Rewords an error of the parser in terms of the command line."""
    message = " ".join(message.split())
    found = re.fullmatch(r"(?:Parser key|[Kk]ey) ['\"](\S+?)['\"]:?(?: is)? ?(.*)", message)
    if found is None:
        return f"{message[:1000]} (see --help)"
    name, reason = found.groups()
    literal = re.search(r"Expected a typing\.Literal\[(.*?)\]\. Got value: (.*)", reason)
    plain = re.match(r"Expected a (<class '\w+'>)\. Got value: (.*)", reason)
    union = re.findall(r"Expected an? (<class '\w+'>)", reason) if "Union subtypes" in reason else []
    if union and all(kind in _TYPES for kind in union):
        reason = f"is {' or '.join(_TYPES[kind] for kind in union)}, not {reason.rpartition('Given value: ')[2]}"
    elif literal:
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
    same = {*_SAME_RUN, *outline("licfg_hf.training.TrainingConfig").RESUMABLE}
    return {name: value for name, value in flat.items() if name not in same}


def _short(value: Any) -> str:
    """A value as a part of a file name."""
    text = os.path.basename(value.rstrip("/")) if isinstance(value, str) else json.dumps(value, default=str)
    return re.sub(r"[^\w.+-]+", "_", text).strip("_") or "none"


def typed_command(name: str, folder: str | None, words: Sequence[str]) -> str | None:
    """The command line that a run was started with, for its card; None where nobody typed one that fits into a line.

    Args:
        name: of the recipe.
        folder: where a script of that name lies in a clone; None where it lies in none.
        words: the options.
    """
    program = Path(sys.argv[0])
    if program.name == "licfg-hf":
        start = ["licfg-hf", "train", name]
    elif program == Path(__file__).parents[1] / "__main__.py":  # ``-m``, of Python or of a launcher
        start = [*_launcher(), "-m", "licfg_hf", "train", name]
    elif program.suffix == ".py" and list(words) == sys.argv[1:]:
        start = [*_launcher(), _script(program)]
    elif folder is not None:  # called by a program
        start = ["accelerate", "launch", f"{folder}/{name}.py"]
    else:
        return None
    command = shlex.join([*start, *words])
    return None if "`" in command or "\n" in command else command


def _launcher() -> list[str]:
    """The program that started this process."""
    if "ACCELERATE_MIXED_PRECISION" in os.environ:  # which ``accelerate launch`` always sets
        return ["accelerate", "launch"]
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return ["torchrun", "--nproc_per_node", os.environ.get("LOCAL_WORLD_SIZE", "1")]
    return ["python"]


def _script(path: Path) -> str:
    """The script as seen from here; nothing of the folders of this machine above."""
    relative = Path(os.path.relpath(path))
    return path.name if relative.parts[0] == ".." else relative.as_posix()
