"""Text made fit for where it goes: a line of a message, a terminal, Markdown."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath, PureWindowsPath

from .errors import InputError

LONGEST = 300  # characters of a text from outside


def first_line(error: BaseException) -> str:
    """The message of an error, in one line; the name of its class if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def counted(number: int, noun: str) -> str:
    """A number of things, such as ``1 split`` or ``1,000 splits``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def few(names: Sequence[str], most: int = 3) -> str:
    """The first names of a list, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def one_line(text: object, longest: int = LONGEST) -> str:
    """Text from outside as one line of printable characters, cut after ``longest``.

    Control characters, lone surrogates and marks that turn the direction of writing become blanks. Of an error that
    says nothing it is the name of its class.
    """
    start = str(text)[: 4 * longest]
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in start).split())
    if not line and isinstance(text, BaseException):
        return type(text).__name__
    return line if len(line) <= longest else line[: longest - 1] + "…"


def last_part(path: str) -> str:
    """The name of what a path leads to, also one of Windows; the path itself where it has none."""
    windows = "\\" in path or PureWindowsPath(path).drive
    return (PureWindowsPath(path) if windows else PurePosixPath(path)).name or path


def printable(text: str) -> str:
    """One line without control characters: line breaks, terminal codes and the like are written as escapes."""
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode("ascii") for mark in text)


def plain(text: str) -> str:
    """One line of text from outside, in which Markdown and HTML mean nothing."""
    return "".join(f"\\{letter}" if letter in "\\`*<[|&" else letter for letter in printable(" ".join(text.split())))


def code_span(text: str) -> str:
    """Text as Markdown code, whatever backticks are in it."""
    text = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if "`" in (text[:1], text[-1:]) else ""
    return f"{fence}{space}{text}{space}{fence}"


def filled(package: str, template: str, **values: object) -> str:
    """A text from a package's folder ``templates``."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # takes a while

    environment = Environment(
        loader=PackageLoader(package),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(values)


_OF_HUB = {
    401: "the Hub does not accept the token: run `hf auth login`, or set HF_TOKEN to one that may do this",
    403: "the Hub forbids it with this token",
    404: "the Hub does not have it, or the token may not see it",
    429: "the Hub received too many requests: wait some minutes",
}


def hub_refusal(status: int, said: str = "", known: dict[int, str] | None = None) -> str:
    """The words for an HTTP status with which the Hub refused something, and what helps.

    What the Hub ``said`` is added. Where it is ``known`` what was asked for, other words replace those of here.
    """
    words = (_OF_HUB | (known or {})).get(status)
    said = f" ({said})" if said else ""
    if words is not None:
        return words + said
    return f"the Hub failed with {status}{said}: try later" if status >= 500 else f"the Hub answered {status}{said}"


_REPOSITORY = re.compile(r"(?!.*(--|\.\.|\.git$))\w([\w.-]{0,94}\w)?/\w([\w.-]{0,94}\w)?", re.ASCII)


def is_repository(name: str) -> bool:
    """True if a repository of the Hub can be called so: ``OWNER/NAME``."""
    return _REPOSITORY.fullmatch(name) is not None


def require_repository(name: str, option: str = "repo_id") -> None:
    """Checks the name of a repository of the Hub, which ``option`` gives."""
    if "/" not in name:
        raise InputError(f"{option} is OWNER/NAME, with your user name or organization as owner, not {name!r}")
    if not is_repository(name):
        raise InputError(
            f"{option} cannot be {name!r}: OWNER/NAME has one slash, letters, digits and single '.', '-' and '_'"
        )


def numbered(names: Iterable[str]) -> list[str]:
    """The names, told apart: a second ``penalty`` is ``penalty_2``."""
    counts: Counter[str] = Counter()
    found = []
    for name in names:
        counts[name] += 1
        found.append(name if counts[name] == 1 else f"{name}_{counts[name]}")
    return found
