"""Published figures: what the package holds of them (``baselines.yaml``), and their rankings on a leaderboard.

A test checks the file whole: fields, numbers, sources, and that no figure stands there twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from ..evaluation.metrics import METRICS
from .ranking import Entry, Ranking, in_order

# Where a figure was read: what its ``checked`` stands for.
READ_IN = {
    "code": "a public repository",
    "paper": "a paper",
    "page": "the first part of a public page",
    "review": "a public thread that quotes the paper",
}
_NO_PLACE = "published: its protocol is not known in every detail, so it has no place among the others"


@dataclass(frozen=True)
class StatedProtocol:
    """The protocol as a publication states it; "" for a part that is not known."""

    title: str  # whose protocol it is
    ranked: bool  # all its figures were measured alike; otherwise they have no order
    reference: str = ""
    samples: str = ""
    extractor: str = ""
    is_splits: str = ""
    precision_recall: str = ""
    selection: str = ""
    remarks: str = ""

    def stated(self, metric: str) -> list[tuple[str, str]]:
        """The settings of a metric, as pairs of a name and a text, which is "" if it is not known."""
        known = [(name, getattr(self, name)) for name in ("reference", "samples", "extractor", "selection")]
        known += [("splits", self.is_splits)] if metric == "is" else []
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


def published_rankings(baselines: Baselines, dataset: str, metric: str) -> list[Ranking]:
    """Published figures by stated protocol and image size.

    They are never in one order with measured ones: no publication states its extractor's and reference's content.
    """
    parts: dict[tuple[str, int], list[Figure]] = {}
    for figure in baselines.figures:
        if figure.dataset == dataset and metric in figure.metrics:
            parts.setdefault((figure.protocol, figure.image_size), []).append(figure)
    return [_ranking(baselines.protocols[name], size, figures, metric) for (name, size), figures in parts.items()]


def _ranking(protocol: StatedProtocol, image_size: int, figures: Sequence[Figure], metric: str) -> Ranking:
    stated = [("image size", f"{image_size} px"), *protocol.stated(metric)]
    details = [("protocol", protocol.title), *((item, text or "not stated") for item, text in stated)]
    details += [("remarks", protocol.remarks)] if protocol.remarks else []
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
    words = [f"{item}: {text}" for item, text in stated if text]
    words += [f"not stated: {unknown}"] if unknown else []
    words += [protocol.remarks] if protocol.remarks else []
    return Ranking(
        title=f"Published: {protocol.title}",
        label=METRICS[metric].published or METRICS[metric].title,
        words=f"{'; '.join(words)}.",
        measured=False,
        ranked=protocol.ranked,
        rows=in_order(entries, metric, protocol.ranked),
        differs=(_NO_PLACE,),
    )
