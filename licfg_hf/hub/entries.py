"""Measured rows of a leaderboard: results whose whole protocol is known, and the groups that they make."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import PurePath, PureWindowsPath

from ..data.presets import PRESETS
from ..data.sources import EMBEDDED
from ..errors import InputError
from ..evaluation.protocol import Protocol, differences, in_words, label, makes_samples
from ..evaluation.result import Result
from ..text import LONGEST, one_line
from .board import LARGEST, Group, Row, in_order

_SEEDS = ("seed", "training_seed")


@dataclass(frozen=True)
class Wanted:
    """What a leaderboard is about.

    Attributes:
        names: all names of the data set; of a path, the last part counts.
        shown: the one that people see.
        metric: key of ``METRICS``.
        public: others will see it: nothing that only the user may see, and no folders of this machine.
        fingerprints: of images that belong to it, whatever they are called.
    """

    names: tuple[str, ...]
    shown: str
    metric: str
    public: bool = False
    fingerprints: frozenset[str] = frozenset()

    def is_of(self, protocol: Protocol) -> bool:
        """Whether a result was measured against this data set. One name may stand for several: see ``Group``."""
        reference = protocol.reference
        if last_part(reference) in map(last_part, self.names):
            return True
        return protocol.reference_fingerprint in self.fingerprints and reference not in (*PRESETS, *EMBEDDED)


def last_part(path: str) -> str:
    """Of a path, also one of Windows."""
    return (PureWindowsPath(path) if "\\" in path else PurePath(path)).name or path


@dataclass(frozen=True)
class Entry:
    """A measured row and its protocol, in which the data set has the name that people see."""

    row: Row
    protocol: Protocol


def entry_of(source: str, name: str, result: Result, wanted: Wanted) -> Entry:
    """The row of a result.

    Args:
        source: "hub" or "local".
        name: that people see.

    Raises:
        InputError: its protocol cannot be shown as it is, which could pass for another one.
    """
    _require_presentable(result.protocol, result.source)
    # The reference's fingerprint tells copies apart, so that its several names need not.
    protocol = replace(result.protocol, reference=wanted.shown)
    step = "" if protocol.step is None else f"step {protocol.step:,}, "
    row = Row(
        source=source,
        name=one_line(name),
        setting=step + makes_samples(protocol),
        details=(*_details(protocol), *((one_line(name), one_line(value)) for name, value in result.unknown)),
        **{key: float(value) for key, value in result.metrics[wanted.metric].items()},
    )
    return Entry(row, protocol)


def _details(protocol: Protocol) -> Iterator[tuple[str, str]]:
    for name, value in replace(protocol, further={}).as_dict().items():
        if name == "versions":
            value = ", ".join(f"{package} {number}" for package, number in sorted(value.items()))
        shown = "none" if value in (None, "") else ("yes" if value else "no") if isinstance(value, bool) else value
        counts = type(shown) is int and name not in _SEEDS
        yield name.replace("_", " "), f"{shown:,}" if counts else one_line(shown)


def _require_presentable(protocol: Protocol, source: str) -> None:
    """Refuses texts that are long or have characters that cannot be seen, and huge numbers.

    Raises:
        InputError: there is one.
    """
    versions = protocol.versions
    further = {name: str(value)[:LONGEST] for name, value in protocol.further.items()}
    values = [getattr(protocol, item.name) for item in fields(Protocol) if item.name not in ("versions", "further")]
    texts = (*values, *versions, *versions.values(), *further, *further.values())
    texts = [value for value in texts if isinstance(value, str)]
    numbers = [value for value in values if isinstance(value, (int, float))]
    if max(len(versions), len(further)) > 50 or not all(len(text) <= LONGEST and text.isprintable() for text in texts):
        raise InputError(f"{source}: its protocol has overlong texts or characters that cannot be seen")
    if not all(abs(number) < LARGEST for number in numbers):
        raise InputError(f"{source}: its protocol has numbers beyond all measure")


def measured_groups(entries: Sequence[Entry], metric: str) -> list[Group]:
    """Entries by protocol: those with local runs first, then the largest."""
    parts: list[list[Entry]] = []
    for entry in entries:
        part = next((part for part in parts if not differences(part[0].protocol, entry.protocol, metric)), None)
        parts.append([entry]) if part is None else part.append(entry)
    parts.sort(key=lambda part: (all(entry.row.source != "local" for entry in part), -len(part)))
    return [
        Group(
            title=f"Protocol {number}",
            label=label(metric, part[0].protocol.extractor),
            words=in_words(part[0].protocol, metric) + ".",
            measured=True,
            ranked=True,
            rows=in_order([entry.row for entry in part], metric, ranked=True),
            differs=tuple(differences(parts[0][0].protocol, part[0].protocol, metric)),
        )
        for number, part in enumerate(parts, start=1)
    ]
