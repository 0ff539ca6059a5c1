"""Text from files of unknown origin, made fit for a terminal and for Markdown."""

import re


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
