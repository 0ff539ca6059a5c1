"""What the papers set, and where a run differs: the rows of ``papers/*.yaml``, each a line of a published table.

A row merges the settings of its ``groups``, in order, with its own: ``options`` are those of the recipe, which can be
compared; ``facts`` are what no option shows; ``protocol`` names how its results were measured. A setting has the
``source`` it was read in, and one of

    value: 64                         one value
    any: [cifar10, uoft-cs/cifar10]   several that mean the same, or a grid that a study runs through
    paper: hinge, code: [normal]      what each source says, where they disagree
    unknown: not stated               why nobody knows; what stands in a preset is its own choice

A preset names its ``row``, and under ``differs`` why it takes something else: name of the setting -> the reason.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from .option_files import read_options

PAPERS = Path(__file__).with_name("papers")
_PLAIN = {"value", "any", "unknown", "source", "note"}


@dataclass(frozen=True)
class Setting:
    """One published setting.

    Attributes:
        name: a dotted option, or the name of a fact.
        said: who says so -> the values that agree with it; the empty name where all sources agree.
        source: where it was read.
        note: a remark; empty without one.
        unknown: why it is not known; empty where it is.
    """

    name: str
    said: Mapping[str, tuple[Any, ...]]
    source: str = ""
    note: str = ""
    unknown: str = ""

    @classmethod
    def read(cls, name: str, entry: Mapping[str, Any]) -> "Setting":
        """What an entry of a file says; the module's docstring shows the forms."""
        sides = {side: value for side, value in entry.items() if side not in _PLAIN}
        said = {side: tuple(value) if isinstance(value, list) else (value,) for side, value in sides.items()}
        if "value" in entry:
            said = {"": (entry["value"],)}
        elif "any" in entry:
            said = {"": tuple(entry["any"])}
        texts = {key: entry[key] for key in ("source", "note", "unknown") if key in entry}
        return cls(name, said, **texts)

    def who_says(self, value: Any) -> list[str]:
        """Those who say this value."""
        return [side for side, values in self.said.items() if any(_same(value, other) for other in values)]

    def in_words(self) -> str:
        """What was published."""
        if self.unknown:
            return f"not known: {self.unknown}"
        return "; ".join(f"{side}: {_shown(values)}" if side else _shown(values) for side, values in self.said.items())


@dataclass(frozen=True)
class Row:
    """One line of a published table, or one figure, and all that is known of how it was made.

    Attributes:
        name: of the row.
        at: paper, table and line.
        options: option -> its setting.
        facts: what no option shows.
        results: the published numbers, as they are printed.
        protocol: by which they were measured, one of ``evaluation/protocols.yaml``; empty where none is known.
        command: recipe and arguments that run it, where these are more than a preset.
        not_covered: why nothing here runs it; empty where something does.
        quoted: whether the paper quotes a figure whose settings it does not state.
    """

    name: str
    at: str
    options: Mapping[str, Setting] = field(default_factory=dict)
    facts: Mapping[str, Setting] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    protocol: str = ""
    command: Sequence[str] = ()
    not_covered: str = ""
    quoted: bool = False


@dataclass(frozen=True)
class Difference:
    """One thing to know about a run beside its row.

    Attributes:
        kind: ``differs`` from what was published, ``disputed`` where the sources disagree, ``own`` where nothing was
            published.
        name: of the setting.
        here: what the run takes; None for a fact.
        setting: what was published.
        reason: why, in the preset's words; empty where it gives none.
    """

    kind: Literal["differs", "disputed", "own"]
    name: str
    here: Any
    setting: Setting
    reason: str = ""

    def __str__(self) -> str:
        takes = self.name if self.here is _FACT else f"{self.name} is {_shown((self.here,))}"
        return f"{takes}; published: {self.setting.in_words()}" + (f". {self.reason}" if self.reason else "")


_FACT = object()  # what a difference takes here where that is no option's value
_MISSING = object()


@cache
def published_rows() -> Mapping[str, Row]:
    """All rows by name.

    Raises:
        ValueError: two rows have one name, or a row names a group that does not exist.
    """
    files = [read_options(path, path.name) for path in sorted(PAPERS.glob("*.yaml"))]
    groups = {name: group for content in files for name, group in content["groups"].items()}
    rows: dict[str, Row] = {}
    for name, entry in ((name, entry) for content in files for name, entry in content["rows"].items()):
        unknown = [group for group in entry.get("groups", ()) if group not in groups]
        if unknown or name in rows:
            raise ValueError(f"row {name} stands there twice, or names a group that no file has: {unknown}")
        rows[name] = _row(name, [*(groups[group] for group in entry.get("groups", ())), entry])
    return rows


def _row(name: str, parts: Sequence[Mapping[str, Any]]) -> Row:
    merged = {
        kind: {key: Setting.read(key, entry) for part in parts for key, entry in part.get(kind, {}).items()}
        for kind in ("options", "facts")
    }
    own: dict[str, Any] = {key: part[key] for part in parts for key in ("protocol",) if key in part}
    own |= {key: value for key, value in parts[-1].items() if key not in ("groups", "options", "facts", "note")}
    return Row(name, options=merged["options"], facts=merged["facts"], **own)


def differences(row: Row, options: Mapping[str, Any], reasons: Mapping[str, str]) -> list[Difference]:
    """How a run with these options differs from a row, the options first.

    Args:
        row: the row.
        options: of the run, nested as the command line's parser gives them.
        reasons: setting -> why it is another one, as in a preset.
    """
    found = []
    for name, setting in row.options.items():
        here = option_value(options, name)
        sides = setting.who_says(here)
        if setting.unknown:
            found.append(Difference("own", name, here, setting))
        elif not sides:
            found.append(Difference("differs", name, here, setting, reasons.get(name, "")))
        elif len(sides) < len(setting.said):
            found.append(Difference("disputed", name, here, setting))
    facts = [
        Difference("differs", name, _FACT, row.facts[name], why) for name, why in reasons.items() if name in row.facts
    ]
    return found + facts


def option_value(options: Mapping[str, Any], name: str) -> Any:
    """The value of a dotted option; for an argument of an optimizer that is not given, the optimizer's own default."""
    value: Any = options
    for part in name.split("."):
        value = value.get(part, _MISSING) if isinstance(value, Mapping) else _MISSING
    optimizer, _, argument = name.partition(".arguments.")
    if value is _MISSING and argument:
        from ..training.optimizers import default_argument

        return default_argument(option_value(options, f"{optimizer}.name"), argument)
    return None if value is _MISSING else value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-9)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def _shown(values: Sequence[Any]) -> str:
    return " or ".join("not set" if value is None else str(value) for value in values)
