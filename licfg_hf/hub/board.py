"""What a leaderboard is: figures in groups, in order only where they can be compared, and notes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..evaluation.protocol import METRICS

LARGEST = 10**15  # number from outside; NaN and infinity are not below it
_MOST_NOTES = 40


@dataclass(frozen=True)
class Row:
    """A figure.

    Attributes:
        source: "hub", "local" or "published".
        name: of the model or method; one printable line, from outside.
        value: of the board's metric.
        std, low, high: its spread, None where it is not known.
        setting: what tells rows of one name apart, "" for nothing.
        place: 1 for the best of the group, the same for equal values; None where there is no order.
        link: web address of the model or publication, None for none.
        details: what the figure depends on, as pairs of a name and a text.
        picture: samples, as a JPEG file; None for none.
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


@dataclass(frozen=True)
class Group:
    """Figures of one protocol, best first.

    Attributes:
        title: short name of the protocol.
        label: name of the metric with these features.
        words: the protocol as a sentence.
        measured: measured by this package's evaluation, with its whole protocol known.
        ranked: its rows have an order.
        differs: why it cannot be compared with the first measured group, a line each; empty for that group.
    """

    title: str
    label: str
    words: str
    measured: bool
    ranked: bool
    rows: tuple[Row, ...]
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Board:
    """A leaderboard.

    Attributes:
        dataset: name of the reference data.
        metric: key of ``METRICS``.
        groups: measured ones first.
        notes: what was left out and why, a line each.
    """

    dataset: str
    metric: str
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()

    @property
    def higher_is_better(self) -> bool:
        """Which way the metric is better."""
        return METRICS[self.metric].higher_is_better


@dataclass
class Notes:
    """What was left out and why, a line each.

    Attributes:
        own: what the user has to know; all of them are shown.
        models: about models of strangers, who can cause as many as they like.
    """

    own: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)

    def lines(self) -> tuple[str, ...]:
        """Own ones first; those about models are counted from the fortieth on."""
        shown, more = self.models[:_MOST_NOTES], len(self.models) - _MOST_NOTES
        return (*self.own, *shown, *([f"and {more} more notes about models"] if more > 0 else []))


def in_order(rows: Sequence[Row], metric: str, ranked: bool) -> tuple[Row, ...]:
    """Rows, best first; equal values share a place."""
    sign = -1 if METRICS[metric].higher_is_better else 1
    ordered = sorted(rows, key=lambda row: (sign * row.value, row.name, row.setting))
    if not ranked:
        return tuple(ordered)
    values = [row.value for row in ordered]
    return tuple(replace(row, place=values.index(row.value) + 1) for row in ordered)
