"""Figures of a leaderboard: in one order only where they were measured alike, and notes on what was left out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..data.config import EMBEDDED, PRESETS
from ..errors import InputError
from ..evaluation.metrics import METRICS
from ..evaluation.protocol import EvaluationProtocol, differences, in_words, label, makes_samples
from ..evaluation.result import Result
from ..text import LONGEST, last_part, one_line

LARGEST = 10**15  # number from outside; NaN and infinity are not below it
_MOST_NOTES = 40
_SEEDS = ("seed", "training_seed")


@dataclass(frozen=True)
class Entry:
    """A figure.

    Attributes:
        source: "hub", "local" or "published".
        name: of the model or method; one printable line, from outside.
        value: of the leaderboard's metric.
        std, low, high: its spread, None where it is not known.
        setting: what tells entries of one name apart, "" for nothing.
        place: 1 for the best of the ranking, the same for equal values; None where there is no order.
        link: web address of the model or publication, None for none.
        details: what the figure depends on, as pairs of a name and a text.
        picture: samples, as a JPEG file; None for none.
        protocol: how it was measured, where that is known; the data set has the name that people see.
    """

    source: str
    name: str
    value: float
    std: float | None = None
    low: float | None = None
    high: float | None = None
    setting: str = ""
    place: int | None = None
    link: str | None = None
    details: tuple[tuple[str, str], ...] = ()
    picture: bytes | None = field(default=None, repr=False)
    protocol: EvaluationProtocol | None = None


@dataclass(frozen=True)
class Ranking:
    """Figures of one protocol, best first.

    Attributes:
        title: short name of the protocol.
        label: name of the metric with these features.
        words: the protocol as a sentence.
        measured: measured by this package's evaluation, with its whole protocol known.
        ranked: its rows have an order.
        differs: why it cannot be compared with the first measured ranking, a line each; empty for that one.
    """

    title: str
    label: str
    words: str
    measured: bool
    ranked: bool
    rows: tuple[Entry, ...]
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Leaderboard:
    """All figures of a metric on a data set.

    Attributes:
        dataset: name of the reference data.
        metric: key of ``METRICS``.
        groups: measured ones first.
        notes: what was left out and why, a line each.
    """

    dataset: str
    metric: str
    groups: tuple[Ranking, ...]
    notes: tuple[str, ...] = ()

    @property
    def higher_is_better(self) -> bool:
        """True if a higher value of the metric is better."""
        return METRICS[self.metric].higher_is_better


@dataclass
class Omissions:
    """Results that were left out, with the reason, a line each.

    Attributes:
        own: what the user has to know; all of them are shown.
        models: about models of strangers, who can cause as many as they like.
    """

    own: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)

    def lines(self) -> tuple[str, ...]:
        """Own ones first; those about models are counted from the fortieth on."""
        more = len(self.models) - _MOST_NOTES
        return (*self.own, *self.models[:_MOST_NOTES], *([f"and {more} more notes about models"] if more > 0 else []))


@dataclass(frozen=True)
class Query:
    """The question that a leaderboard answers.

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

    def is_of(self, protocol: EvaluationProtocol) -> bool:
        """True if a result was measured against this data set. One name may stand for several: see ``Ranking``."""
        reference = protocol.reference
        if last_part(reference) in map(last_part, self.names):
            return True
        return protocol.reference_fingerprint in self.fingerprints and reference not in (*PRESETS, *EMBEDDED)


def in_order(entries: Sequence[Entry], metric: str, ranked: bool) -> tuple[Entry, ...]:
    """Entries, best first; equal values share a place."""
    sign = -1 if METRICS[metric].higher_is_better else 1
    ordered = sorted(entries, key=lambda entry: (sign * entry.value, entry.name, entry.setting))
    values = [entry.value for entry in ordered]
    return tuple(replace(one, place=values.index(one.value) + 1) if ranked else one for one in ordered)


def entry_of(source: str, name: str, result: Result, query: Query, **more: Any) -> Entry:
    """The entry of a result.

    Args:
        source: "hub" or "local".
        name: that people see.
        more: further fields of the entry.

    Raises:
        InputError: its protocol cannot be shown as it is, which could pass for another one.
    """
    _require_presentable(result.protocol, result.source)
    # The reference's fingerprint tells copies apart, so that its several names need not.
    protocol = replace(result.protocol, reference=query.shown)
    step = "" if protocol.step is None else f"step {protocol.step:,}, "
    numbers = result.metrics[query.metric]
    unknown = ((one_line(name), one_line(value)) for name, value in result.unknown)
    return Entry(
        source,
        one_line(name),
        float(numbers["value"]),
        *(numbers.get(key) for key in ("std", "low", "high")),
        setting=step + makes_samples(protocol),
        details=(*_details(protocol), *unknown),
        protocol=protocol,
        **more,
    )


def _details(protocol: EvaluationProtocol) -> Iterator[tuple[str, str]]:
    for name, value in replace(protocol, further={}).as_dict().items():
        if name == "versions":
            value = ", ".join(f"{package} {number}" for package, number in sorted(value.items()))
        shown = "none" if value in (None, "") else ("yes" if value else "no") if isinstance(value, bool) else value
        counts = type(shown) is int and name not in _SEEDS
        yield name.replace("_", " "), f"{shown:,}" if counts else one_line(shown)


def _require_presentable(protocol: EvaluationProtocol, source: str) -> None:
    """Refuses texts that are long or have characters that cannot be seen, and huge numbers.

    Raises:
        InputError: there is one.
    """
    versions = protocol.versions
    further = {name: str(value)[:LONGEST] for name, value in protocol.further.items()}
    values = [
        getattr(protocol, item.name) for item in fields(EvaluationProtocol) if item.name not in ("versions", "further")
    ]
    texts = (*values, *versions, *versions.values(), *further, *further.values())
    texts = [value for value in texts if isinstance(value, str)]
    numbers = [value for value in values if isinstance(value, (int, float))]
    if max(len(versions), len(further)) > 50 or not all(len(text) <= LONGEST and text.isprintable() for text in texts):
        raise InputError(f"{source}: its protocol has overlong texts or characters that cannot be seen")
    if not all(abs(number) < LARGEST for number in numbers):
        raise InputError(f"{source}: its protocol has impossibly large numbers")


def measured_rankings(entries: Sequence[Entry], metric: str) -> list[Ranking]:
    """Entries with a protocol, by that: those with local runs first, then the largest."""
    parts: list[tuple[EvaluationProtocol, list[Entry]]] = []
    for entry in entries:
        if entry.protocol is None:
            raise ValueError(f"{entry.name} has no protocol")
        same = (part for protocol, part in parts if not differences(protocol, entry.protocol, metric))
        part = next(same, None)
        parts.append((entry.protocol, [entry])) if part is None else part.append(entry)
    parts.sort(key=lambda part: (all(entry.source != "local" for entry in part[1]), -len(part[1])))
    return [
        Ranking(
            title=f"Protocol {number}",
            label=label(metric, protocol.extractor),
            words=in_words(protocol, metric) + ".",
            measured=True,
            ranked=True,
            rows=in_order(part, metric, ranked=True),
            differs=tuple(differences(parts[0][0], protocol, metric)),
        )
        for number, (protocol, part) in enumerate(parts, start=1)
    ]
