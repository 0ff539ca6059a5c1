"""Published figures: what the package holds of them, and their groups on a leaderboard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from ..errors import InputError
from ..evaluation.protocol import METRICS, require_possible
from ..text import one_line
from .board import LARGEST, Group, Row, in_order

_CHECKED = ("code", "paper", "page", "review")


@dataclass(frozen=True)
class StatedProtocol:
    """What a publication says about its protocol; "" where nothing is known.

    Attributes:
        title: whose protocol it is.
        ranked: all its figures were measured alike; otherwise they have no order.
    """

    title: str
    ranked: bool
    reference: str = ""
    samples: str = ""
    extractor: str = ""
    is_splits: str = ""
    precision_recall: str = ""
    selection: str = ""
    remarks: str = ""

    def stated(self, metric: str) -> list[tuple[str, str]]:
        """What a metric depends on, as pairs of a name and a text, which is "" where nothing is known."""
        known = [
            ("reference", self.reference),
            ("samples", self.samples),
            ("extractor", self.extractor),
            ("selection", self.selection),
        ]
        known += [("splits", self.is_splits)] if metric == "is" else []
        if "neighbours" in METRICS[metric].settings:
            known.append(("precision and recall", self.precision_recall))
        return known


@dataclass(frozen=True)
class Figure:
    """A published result.

    Attributes:
        image_size: height and width in pixels.
        checked: where it was read: in public "code", a "paper", the first part of a "page", or a "review" that quotes
            the paper.
        source: the publication.
        metrics: by key of ``METRICS``: ``value`` and, where it is known, ``std``.
    """

    method: str
    dataset: str
    image_size: int
    protocol: str
    checked: str
    source: str
    metrics: dict[str, dict[str, float]]
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
    return parse_baselines((files("licfg_hf.hub") / "baselines.yaml").read_text(encoding="utf-8"), "baselines.yaml")


def parse_baselines(text: str, source: str) -> Baselines:
    """Reads and checks published figures.

    Raises:
        InputError: a field is missing, unknown or impossible, or a figure stands there twice; one line.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{source} is no YAML: {one_line(error)}") from error
    if not isinstance(content, dict) or set(content) != {"protocols", "figures"}:
        raise InputError(f"{source} needs exactly protocols and figures")
    if not isinstance(content["protocols"], dict) or not isinstance(content["figures"], list):
        raise InputError(f"{source}: protocols are a mapping and figures a list")
    protocols = {
        name: _typed(StatedProtocol, entry, f"{source}: protocol {name}")
        for name, entry in content["protocols"].items()
    }
    figures = [
        _figure(entry, protocols, f"{source}: figure {number}")
        for number, entry in enumerate(content["figures"], start=1)
    ]
    identities = [
        (figure.method, figure.setting, figure.dataset, figure.image_size, figure.protocol) for figure in figures
    ]
    for identity in identities:
        if identities.count(identity) > 1:
            raise InputError(f"{source}: {' '.join(map(str, identity))} stands there twice")
    return Baselines(protocols, tuple(figures))


def _typed(kind: type, content: Any, source: str) -> Any:
    """An instance from a mapping whose values must have the types of its fields."""
    if not isinstance(content, dict):
        raise InputError(f"{source} is no mapping")
    known = {item.name: item for item in fields(kind)}
    for name in content:
        if name not in known:
            raise InputError(f"{source} has an unknown field {name!r}")
    for name, value in content.items():
        wanted = {bool: bool, int: int, str: str}.get(known[name].type, str if name == "url" else dict)
        if type(value) is not wanted:
            raise InputError(f"{source}: {name} cannot be {one_line(value, 60)}")
    try:
        return kind(**content)
    except TypeError as error:
        raise InputError(f"{source} is incomplete: {error}") from error


def _figure(content: Any, protocols: Mapping[str, StatedProtocol], source: str) -> Figure:
    figure = _typed(Figure, content, source)
    if figure.protocol not in protocols:
        raise InputError(f"{source}: there is no protocol {figure.protocol!r}")
    if figure.checked not in _CHECKED:
        raise InputError(f"{source}: checked is one of {', '.join(_CHECKED)}, not {figure.checked!r}")
    if figure.image_size < 1 or (figure.url is not None and not figure.url.startswith("https://")):
        raise InputError(f"{source}: its image_size is positive and its url starts with https://")
    if not figure.metrics:
        raise InputError(f"{source} has no metrics")
    for metric, numbers in figure.metrics.items():
        possible = isinstance(numbers, dict) and "value" in numbers and set(numbers) <= {"value", "std"}
        if metric not in METRICS or not possible or not all(_is_number(number) for number in numbers.values()):
            raise InputError(f"{source}: {metric} is a metric's value and perhaps std, not {one_line(numbers, 60)}")
        try:
            require_possible(metric, numbers, "inception")
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
    return figure


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST


def published_groups(baselines: Baselines, dataset: str, metric: str) -> list[Group]:
    """Published figures by stated protocol and image size.

    They are never in one order with measured rows: no publication states its extractor's and reference's content.
    """
    parts: dict[tuple[str, int], list[Figure]] = {}
    for figure in baselines.figures:
        if figure.dataset == dataset and metric in figure.metrics:
            parts.setdefault((figure.protocol, figure.image_size), []).append(figure)
    groups = []
    for (name, image_size), figures in parts.items():
        protocol = baselines.protocols[name]
        stated = [("image size", f"{image_size} px"), *protocol.stated(metric)]
        details = [("protocol", protocol.title), *((item, text or "not stated") for item, text in stated)]
        details += [("remarks", protocol.remarks)] if protocol.remarks else []
        rows = [_published_row(figure, metric, details) for figure in figures]
        groups.append(
            Group(
                title=f"Published: {protocol.title}",
                label=METRICS[metric].published or METRICS[metric].title,
                words=_in_words(stated, protocol.remarks),
                measured=False,
                ranked=protocol.ranked,
                rows=in_order(rows, metric, protocol.ranked),
                differs=("published: its protocol is not known in every detail, so it has no place among the others",),
            )
        )
    return groups


def _in_words(stated: Sequence[tuple[str, str]], remarks: str) -> str:
    known = [f"{item}: {text}" for item, text in stated if text]
    unknown = [item for item, text in stated if not text]
    known += [f"not stated: {', '.join(unknown)}"] if unknown else []
    return "; ".join(known + ([remarks] if remarks else [])) + "."


_READ_IN = {
    "code": "a public repository",
    "paper": "a paper",
    "page": "the first part of a public page",
    "review": "a public thread that quotes the paper",
}


def _published_row(figure: Figure, metric: str, details: Sequence[tuple[str, str]]) -> Row:
    return Row(
        source="published",
        name=figure.method,
        setting=figure.setting,
        link=figure.url,
        details=(("source", figure.source), ("read in", _READ_IN[figure.checked]), *details),
        **{key: float(value) for key, value in figure.metrics[metric].items()},
    )
