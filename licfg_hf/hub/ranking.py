"""Figures of a leaderboard, measured and published: in one order only where they were measured alike.

The published ones stand in ``baselines.yaml``, which a test checks whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from ..data.config import EMBEDDED, PRESETS
from ..errors import InputError
from ..evaluation.metrics import METRICS
from ..evaluation.protocol import PRESETS as PROTOCOLS
from ..evaluation.protocol import EvaluationProtocol, differences, grouped, in_words, kind_of, label, makes_samples
from ..evaluation.result import Result
from ..text import LONGEST, last_part, one_line

LARGEST = 10**15  # number from outside; NaN and infinity are not below it
_MOST_NOTES = 40
_SEEDS = ("seed", "training_seed")
# Where a figure was read: what its ``checked`` stands for.
READ_IN = {
    "code": "a public repository",
    "paper": "a paper",
    "page": "the first part of a public page",
    "review": "a public thread that quotes the paper",
}


@dataclass(frozen=True)
class Entry:
    """A figure."""

    source: str  # "hub", "local" or "published"
    name: str  # of the model or method; one printable line, from outside
    value: float  # of the leaderboard's metric
    std: float | None = None
    low: float | None = None
    high: float | None = None
    setting: str = ""  # what tells entries of one name apart
    place: int | None = None  # 1 for the best of the ranking, the same for equal values; None where there is no order
    link: str | None = None  # web address of the model or publication
    details: tuple[tuple[str, str], ...] = ()  # what the figure depends on: names and texts
    picture: bytes | None = field(default=None, repr=False)  # samples, as a JPEG file
    protocol: EvaluationProtocol | None = None  # where it is known; the data set has the name that people see

    @property
    def measured(self) -> EvaluationProtocol:
        """The protocol of an entry that is not a published one."""
        if self.protocol is None:
            raise ValueError(f"{self.name} has no protocol")
        return self.protocol


@dataclass(frozen=True)
class Ranking:
    """Figures of one protocol, best first."""

    title: str  # short name of the protocol
    label: str  # name of the metric with these features
    words: str  # the protocol as a sentence
    measured: bool  # by this package's evaluation, with its whole protocol known
    ranked: bool  # its rows have an order
    rows: tuple[Entry, ...]
    differs: tuple[str, ...] = ()  # why it cannot be compared with the first measured ranking, a line each


@dataclass(frozen=True)
class Leaderboard:
    """All figures of a metric on a data set."""

    dataset: str
    metric: str  # key of ``METRICS``
    groups: tuple[Ranking, ...]  # measured ones first
    notes: tuple[str, ...] = ()  # what was left out and why, a line each

    @property
    def higher_is_better(self) -> bool:
        """True if a higher value of the metric is better."""
        return METRICS[self.metric].higher_is_better


@dataclass
class Omissions:
    """Results that were left out, with the reason, a line each."""

    own: list[str] = field(default_factory=list)  # what the user has to know; all of them are shown
    models: list[str] = field(default_factory=list)  # about models of strangers, who can cause as many as they like

    def lines(self) -> tuple[str, ...]:
        """Own ones first; those about models are counted from the fortieth on."""
        more = len(self.models) - _MOST_NOTES
        return (*self.own, *self.models[:_MOST_NOTES], *([f"and {more} more notes about models"] if more > 0 else []))


@dataclass(frozen=True)
class Query:
    """The question that a leaderboard answers."""

    names: tuple[str, ...]  # all those of the data set; of a path, the last part counts
    shown: str  # the one that people see
    metric: str  # key of ``METRICS``
    public: bool = False  # others will see it: nothing that only the user may see, and no folders of this machine
    fingerprints: frozenset[str] = frozenset()  # of images that belong to it, whatever they are called

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
    """The entry of a result; InputError where its protocol cannot be shown as it is, and could pass for another."""
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
    """Refuses texts that are long or have characters that cannot be seen, and huge numbers."""
    versions = protocol.versions
    further = {name: str(value)[:LONGEST] for name, value in protocol.further.items()}
    values = [getattr(protocol, item.name) for item in fields(protocol)]
    texts = (*values, *versions, *versions.values(), *further, *further.values())
    texts = [value for value in texts if isinstance(value, str)]
    numbers = [value for value in values if isinstance(value, (int, float))]
    if max(len(versions), len(further)) > 50 or not all(len(text) <= LONGEST and text.isprintable() for text in texts):
        raise InputError(f"{source}: its protocol has overlong texts or characters that cannot be seen")
    if not all(abs(number) < LARGEST for number in numbers):
        raise InputError(f"{source}: its protocol has impossibly large numbers")


def measured_rankings(entries: Sequence[Entry], metric: str) -> list[Ranking]:
    """Entries with a protocol, by that: those with local runs first, then the largest."""
    parts = grouped(entries, lambda entry: kind_of(entry.measured, metric))
    parts.sort(key=lambda part: (all(entry.source != "local" for entry in part), -len(part)))
    protocols = [part[0].measured for part in parts]
    return [
        Ranking(
            title=f"Protocol {number}",
            label=label(metric, protocol.extractor),
            words=f"{in_words(protocol, metric)}.",
            measured=True,
            ranked=True,
            rows=in_order(part, metric, ranked=True),
            differs=tuple(differences(protocols[0], protocol, metric)),
        )
        for number, (protocol, part) in enumerate(zip(protocols, parts, strict=True), start=1)
    ]


# Published figures


_STATED = ("reference", "samples", "extractor", "selection")


def _in_words(measured: str) -> dict[str, str]:
    """What a known protocol, perhaps on certain data, says of a figure, as fields of ``StatedProtocol``."""
    name, _, place = measured.partition(" ")
    data, _, size = place.partition("/")
    protocol = PROTOCOLS[name].on([data], int(size) if size else None)
    options, best = protocol.options, METRICS.get(protocol.training.get("keep_best", ""))
    said = {"is_splits": str(options.get("is_splits", ""))}
    if "samples" in options:
        jpeg = "" if options.get("jpeg") is None else ", saved as JPEG (which changes FID)"
        said["samples"] = f"{options['samples']:,}{jpeg}"
    weights = {"raw": ", raw generator", "ema": ", averaged generator"}.get(str(options.get("weights")), "")
    batch = ", in training mode" if options.get("batch_statistics") else ""
    named = "" if best is None else f" {best.published or best.title} over training"
    said["selection"] = f"{options['selection']}{named}{weights}{batch}" + (" (best-of-run bias)" if named else "")
    return said


@dataclass(frozen=True)
class StatedProtocol:
    """The protocol as a publication states it; "" for a part that is not known."""

    title: str  # whose protocol it is
    ranked: bool  # all its figures were measured alike; otherwise they have no order
    measured: str = ""  # name of a known protocol, and the data where that makes a difference: it says what is "" here
    reference: str = ""
    samples: str = ""
    extractor: str = ""
    is_splits: str = ""
    precision_recall: str = ""
    selection: str = ""
    remarks: str = ""

    def stated(self, metric: str) -> list[tuple[str, str]]:
        """The settings of a metric, as pairs of a name and a text, which is "" if it is not known."""
        said = _in_words(self.measured) if self.measured else {}
        known = [(name, getattr(self, name) or said.get(name, "")) for name in _STATED]
        known += [("splits", self.is_splits or said.get("is_splits", ""))] if metric == "is" else []
        neighbours = "neighbours" in METRICS[metric].settings
        return known + ([("precision and recall", self.precision_recall)] if neighbours else [])


@dataclass(frozen=True)
class Figure:
    """A published result."""

    method: str
    dataset: str
    image_size: int  # height and width in pixels
    protocol: str
    checked: str  # key of ``READ_IN``
    source: str  # the publication
    metrics: dict[str, dict[str, float]]  # by key of ``METRICS``: ``value`` and, where it is known, ``std``
    setting: str = ""
    url: str | None = None
    row: str = ""  # of the published settings that prints the same


@dataclass(frozen=True)
class Baselines:
    """Published figures and the protocols that they name."""

    protocols: dict[str, StatedProtocol]
    figures: tuple[Figure, ...]


@cache
def load_baselines() -> Baselines:
    """The published figures that the package holds."""
    content = yaml.safe_load((files("licfg_hf.hub") / "baselines.yaml").read_text(encoding="utf-8"))
    protocols = {name: StatedProtocol(**entry) for name, entry in content["protocols"].items()}
    return Baselines(protocols, tuple(Figure(**entry) for entry in content["figures"]))


def published_rankings(dataset: str, metric: str) -> list[Ranking]:
    """Published figures by stated protocol and image size.

    They are never in one order with measured ones: no publication states its extractor's and reference's content.
    """
    baselines = load_baselines()
    figures = [one for one in baselines.figures if one.dataset == dataset and metric in one.metrics]
    parts = grouped(figures, lambda figure: (figure.protocol, figure.image_size))
    return [_published(baselines.protocols[part[0].protocol], part, metric) for part in parts]


def _published(protocol: StatedProtocol, figures: Sequence[Figure], metric: str) -> Ranking:
    stated = [("image size", f"{figures[0].image_size} px"), *protocol.stated(metric)]
    remarks = [("remarks", protocol.remarks)] if protocol.remarks else []
    details = (("protocol", protocol.title), *((item, text or "not stated") for item, text in stated), *remarks)
    entries = [
        Entry(
            source="published",
            name=figure.method,
            value=float(figure.metrics[metric]["value"]),
            std=figure.metrics[metric].get("std"),
            setting=figure.setting,
            link=figure.url,
            details=(("source", figure.source), ("read in", READ_IN[figure.checked]), *details),
        )
        for figure in figures
    ]
    unknown = ", ".join(item for item, text in stated if not text)
    words = [f"{item}: {text}" for item, text in stated if text] + ([f"not stated: {unknown}"] if unknown else [])
    return Ranking(
        title=f"Published: {protocol.title}",
        label=METRICS[metric].published or METRICS[metric].title,
        words=f"{'; '.join([*words, *(text for _, text in remarks)])}.",
        measured=False,
        ranked=protocol.ranked,
        rows=in_order(entries, metric, protocol.ranked),
        differs=("published: its protocol is not known in every detail, so it has no place among the others",),
    )
