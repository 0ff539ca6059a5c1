"""What must not leave this machine: the names of its folders are taken out, and secrets are refused."""

import json
import os
import re
import shlex
from collections.abc import Iterable
from html import escape
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from ..errors import InputError
from ..text import last_part

_COMMAND = re.compile(r"^- Command: `(.+)`\n", re.MULTILINE)  # of a card
# Settings and results that name places; what else has slashes in it may be anything.
_PLACES = ("data", "reference", "name", "init_from", "resume", "config", "evaluate_features", "extractor")
BLOCK = re.compile(r"^```(python|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)  # of a card


class Cleaner:
    """Takes the folders of this machine out of what is published: of a path, its last part stays.

    Every string in ``contents``, settings and results, that is a path, absolute or not, is taken out everywhere.
    """

    def __init__(self, folder: Path, contents: Iterable[Any]):
        found = {str(folder.absolute()), str(folder.resolve())}
        for content in contents:
            found |= set(_paths(content))
        found |= {escape(path) for path in found}  # as report.html has them
        longest_first = sorted((path for path in found if _last_part(path) != path), key=len, reverse=True)
        ends = [r"" if _is_machine_path(path) else r"(?![\w/-])" for path in longest_first]
        patterns = [rf"(?<![\w/.:-]){re.escape(path)}{end}" for path, end in zip(longest_first, ends, strict=True)]
        self._paths = re.compile("|".join(patterns) or "(?!)")

    def text(self, text: str) -> str:
        """Any text."""
        return self._paths.sub(lambda match: _last_part(match[0]), text)

    def value(self, content: Any) -> Any:
        """JSON or YAML content; ``output_dir`` keeps its last part even where it is relative."""
        if isinstance(content, dict):
            return {
                key: _last_part(item) if key == "output_dir" and isinstance(item, str) else self.value(item)
                for key, item in content.items()
            }
        if isinstance(content, list):
            return [self.value(item) for item in content]
        return self.text(content) if isinstance(content, str) else content

    def card(self, text: str) -> str:
        """A README.md: its command, its settings, which may be folded over lines, and then what is left of it."""

        def clean(block: re.Match) -> str:
            settings = _block_settings(block)
            cleaned = self.value(settings)
            return block[0] if cleaned == settings else f"```yaml\n{dump('.yaml', cleaned).strip()}\n```"

        return self.text(BLOCK.sub(clean, _COMMAND.sub(_clean_command, text)))


def settings_in(card: str) -> list[Any]:
    """The contents of a README.md's blocks of YAML."""
    return [_block_settings(block) for block in BLOCK.finditer(card)]


def dump(name: str, content: Any) -> str:
    """JSON or YAML text, by the end of the file's name."""
    if name.endswith(".json"):
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _clean_command(line: re.Match) -> str:
    """The line of a card with the command that made the model; none where that is no command line."""
    try:
        words = shlex.split(line[1])
    except ValueError:
        return ""
    return f"- Command: `{shlex.join(map(_clean_word, [*words], ['', *words]))}`\n"


def _clean_word(word: str, before: str) -> str:
    """A word of a command line: a value, or ``--name=value``; of a folder's path, relative or not, the last part."""
    name, equals, value = word.partition("=") if word.startswith("--") else (before, "", word)
    if _is_place(value, name.removeprefix("--")):
        value = _last_part(value)
    return f"{name}={value}" if equals else word if word.startswith("--") else value


def _block_settings(block: re.Match) -> Any:
    """Content of a YAML block in a card; None for other blocks and for what is no YAML."""
    if block[1] != "yaml":
        return None
    try:
        return yaml.safe_load(block[2])
    except yaml.YAMLError:
        return None


def _paths(content: Any, key: Any = None) -> Iterable[str]:
    if isinstance(content, (dict, list)):
        for name, item in content.items() if isinstance(content, dict) else ((key, item) for item in content):
            yield from _paths(item, name)
    elif isinstance(content, str) and _is_place(content, key):
        yield content


def _parted(text: str) -> tuple[str, str]:
    """What stands before a path, as in ``inception:/path``, and the path, to which a drive of one letter belongs."""
    path = re.sub(r"\A(?:\w[\w.-]+:(?!//))+", "", text)
    return text[: len(text) - len(path)], path


def _is_place(text: str, key: Any) -> bool:
    """True if the value of a setting is the path of something on this machine, not one name or a name of the Hub."""
    _, path = _parted(text)
    if "\n" in text or "\0" in text or "://" in path:
        return False
    if key == "output_dir" or _is_machine_path(text) or path.startswith(("~", "./", "../", ".\\", "..\\")):
        return True
    return "/" in path and path[0] != "/" and ((key in _PLACES and path.count("/") > 1) or os.path.exists(path))


def _is_machine_path(text: str) -> bool:
    """True if a string is the absolute path of a file; ``/`` and a folder right below it tell nothing."""
    _, path = _parted(text)
    windows = PureWindowsPath(path)
    depth = len((windows if windows.drive else PurePosixPath(path)).parts)
    return depth > 2 and "\n" not in text and (path.startswith(("/", "~")) or bool(windows.drive))


def _last_part(text: str) -> str:
    before, path = _parted(text)
    return before + last_part(path)


# Secrets that lie in the texts of a model folder by mistake

_NAME = r"(?i:token|secret|passwd|password|passphrase|credentials?|(?:api|access|private|secret)_?-?key)"
_VALUE = r"(?!(?i:true|false|none|null)\b)[\w+/=.~!@#%^&*-]{6,}"
_SECRETS = {
    "a token of Hugging Face": r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}",
    "a key of an API": r"\bsk-(?:\w{1,10}-){0,3}\w{16,}|\bAIza[\w-]{30,}|\bnpm_\w{30,}|\bpypi-\w{30,}",
    "a token of GitHub or GitLab": r"\bgh[a-z]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{16,}|\bglpat-[\w-]{16,}",
    "a key of AWS": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a token of Slack": r"\bxox[a-z]-[\w-]{10,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "an address with a password": r"\b[A-Za-z][\w+.-]{0,20}://[^\s/@:\"'<>]*:[^\s/@\"'<>]+@",
    "a key of Weights & Biases": r"(?i:wandb|key|token)\b[^\n]{0,40}?\b[0-9a-f]{40}\b",
}
# A value behind a name that says what it is. In prose and code it has letters and digits, as os.environ has not.
_SETTING = rf"{_NAME}\\?[\"']?\s*[:=]\s*\\?[\"']?{_VALUE}"
_IN_PROSE = rf"{_NAME}(?:\\?[\"']?\s*[:=]\s*\\?[\"']?|\s+)(?=[^\s\"',]*\d)(?=\S*[A-Za-z]){_VALUE}"
_EMBEDDED = re.compile(r"base64,[\w+/=]+")  # pictures in a report


def require_no_secrets(path: Path, text: str) -> None:
    """Refuses a text with what looks like a token, key or password; the message does not repeat it."""
    settings = path.suffix in (".json", ".yaml")
    kinds = _SECRETS | {"a password or token": _SETTING if settings else _IN_PROSE}
    if ".index." in path.name:  # the weights of a network, of which one may be called token
        kinds = _SECRETS
    text = _EMBEDDED.sub("base64,", text)
    for kind, pattern in kinds.items():
        if found := re.search(pattern, text):
            line = text.count("\n", 0, found.start()) + 1
            raise InputError(
                f"{path}, line {line}, has what looks like {kind}: remove it before you publish, and revoke it if "
                "others have seen it"
            )
