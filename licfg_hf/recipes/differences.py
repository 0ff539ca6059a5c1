"""What a run changes from its paper, in words: for ``licfg-hf train NAME --differences``, the cards and the docs."""

from collections.abc import Mapping
from typing import Any

import yaml

from .published import Difference, Row, differences, option_value, published_rows

_TITLES = {
    "differs": "Differs from what was published:",
    "disputed": "The sources disagree:",
    "own": "Not published, so the choice is this library's:",
}


def compared(recipe: str, presets: Any, options: Mapping[str, Any]) -> tuple[Row, list[Difference]] | None:
    """The published row that a run stands for, and how it differs; None where it stands for none.

    Args:
        recipe: name of the recipe.
        presets: its presets.
        options: of the run, as the parser gives them.
    """
    name, rows = options["preset"], published_rows()
    own = presets.row(name) if hasattr(presets, "row") else None
    row = _reached_by_options(recipe, options) or (None if own is None else rows[own])
    return None if row is None else (row, differences(row, options, presets.reasons(name)))


def _reached_by_options(recipe: str, options: Mapping[str, Any]) -> Row | None:
    """The row that these options make of a preset; where there are several, the one that names most of them."""
    found: list[tuple[int, Row]] = []
    for row in published_rows().values():
        words = list(row.command[1:]) if row.command and row.command[0] == recipe else []
        given = dict(zip(words[::2], words[1::2], strict=False))
        if given.pop("--preset", None) != options["preset"] or not given:
            continue
        if all(str(option_value(options, name[2:])) in _values(value) for name, value in given.items()):
            found.append((len(given), row))
    return max(found, key=lambda item: item[0])[1] if found else None


def _values(word: str) -> list[str]:
    """The values that a word of a command stands for, as an option shows them."""
    return [str(yaml.safe_load(value)) for value in word.split("|")]


def in_words(found: tuple[Row, list[Difference]] | None) -> str:
    """The answer to ``--differences``, several lines of Markdown."""
    if found is None:
        return "This preset stands for no published row: its settings are this library's."
    row, items = found
    numbers = ", ".join(f"{name} {value}" for name, value in row.results.items())
    lines = [f"Stands for `{row.name}`: {row.at}" + (f" ({numbers})." if numbers else ".")]
    if row.protocol and not row.quoted:
        lines += ["", f"Its authors measure as `--protocol {row.protocol}` does."]
    if row.quoted:
        lines += [
            "",
            "The paper quotes this figure and states none of its settings: all of them are this library's choice.",
        ]
    for kind, title in _TITLES.items():
        listed = [f"- {item}" for item in items if item.kind == kind]
        lines += ["", title, *listed] if listed else []
    return "\n".join(lines)
