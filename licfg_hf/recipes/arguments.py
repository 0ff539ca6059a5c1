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

from ..command_line import replaced, require_no_more
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


def with_files_read(words: Sequence[str]) -> list[str]:
    """The command line with the content of each ``--config``, as JSON, in place of its name, so that it is read once.

    What its option ``import`` names becomes an ``--import``.
    """

    def read(path: str | None) -> list[str]:
        if path is None:
            return ["--config"]
        content = read_options(path, f"--config {path}")
        modules = content.pop("import", None) or []
        modules = modules if isinstance(modules, list) else [modules]
        return [*(f"--import={module}" for module in modules), f"--config={json.dumps(content)}"]

    return replaced(words, "config", read)


def as_trackers(words: Sequence[str]) -> list[str]:
    """``--report_to wandb``, as other trainers of the Hugging Face stack call it, as the option ``--trackers``."""

    def trackers(names: str | None) -> list[str]:
        return [f"--trackers={json.dumps([name.strip() for name in (names or '').strip('[]').split(',')])}"]

    return replaced(words, "report_to", trackers)


def require_known(words: list[str], parser: ArgumentParser) -> None:
    """Refuses an option that is none, also the first letters of one."""
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
    """The output folder of a run that was given none: another one for each run that is another than its preset's."""
    same = {*_SAME_RUN, *outline("licfg_hf.training.TrainingConfig").RESUMABLE}
    parts = {name: _short(value) for name, value in options.items() if name not in same}
    ending = "".join(f"-{name}_{part}" for name, part in parts.items() if part != _short(defaults.get(name)))
    if len(ending) > _LONGEST_NAME:
        ending = f"{ending[:_LONGEST_NAME]}-{hashlib.sha256(ending.encode()).hexdigest()[:8]}"
    return stem + ending


def _short(value: Any) -> str:
    """A value as a part of a file name; of a path, such as that of the data, the last part counts."""
    text = os.path.basename(value.rstrip("/")) if isinstance(value, str) else json.dumps(value, default=str)
    return re.sub(r"[^\w.+-]+", "_", text).strip("_") or "none"


def typed_command(name: str, folder: str | None, words: Sequence[str]) -> str | None:
    """The command line that a run was started with, for its card; None where nobody typed one that fits into a line.

    In ``folder`` of a clone lies a script of the recipe's name, unless it is None.
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
