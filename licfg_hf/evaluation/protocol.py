"""The protocol of a measurement, everything that its number depends on, and which numbers may be compared."""

import json
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.resources import files
from typing import Any, TypeVar, get_type_hints

import yaml

from ..errors import InputError
from ..text import few, last_part
from .metrics import METRICS, special_settings

FORMAT = 1  # of an eval.json
Item = TypeVar("Item")

# They say which run was measured, which of its samples, with what software, and how the reference is called, whose
# content the fingerprint tells; two runs of one protocol differ in them.
_IDENTITY = frozenset({"seed", "training_seed", "step", "config_hash", "versions", "reference", "weights", "flow"})
_MAY_BE_ABSENT = frozenset({"training_seed", "held_out", "batch_statistics"})  # what is not known, or not used
_COUNTS = (
    *("reference_count", "samples", "neighbours", "kid_subsets", "kid_subset_size", "is_splits"),
    "batch_statistics",
)
_LONGEST = 200  # characters of a value in words


@dataclass(frozen=True)
class EvaluationProtocol:
    """The protocol by which a result was measured; None stands for what is not known or not used.

    Raises:
        InputError: ``weights`` or ``selection`` is none of the known ones, a count is below 1, or the step below 0.
    """

    extractor: str  # name of the feature extractor
    extractor_hash: str  # first 16 digits of the SHA-256 of its weights, "" where it has none
    preprocessing: str  # what images go through before the extractor, in words
    reference: str  # data set that samples are compared with, as named
    reference_fingerprint: str  # identifies its content
    reference_split: str
    reference_count: int  # its images
    samples: int  # generated images
    seed: int  # of the sampling
    weights: str  # "ema", "raw", "images" (a folder of images was measured) or "unknown"
    selection: str | None  # "best" or "final" checkpoint of a run
    truncation: float | None  # of the latents
    flow: bool  # samples went through functional-gradient steps after the generator
    jpeg: int | None  # quality of the JPEG compression that samples went through
    dtype: str  # of the model when sampling
    neighbours: int  # k of precision, recall, density and coverage
    kid_subsets: int  # that KID is the mean over; 1 of all the samples is the full-sample estimate
    kid_subset_size: int  # samples in each
    is_splits: int  # that the Inception Score is the mean over
    step: int | None  # training step of the model
    config_hash: str | None  # of the model's settings
    versions: dict[str, str] = field(default_factory=dict)  # of the software, by package
    training_seed: int | None = None  # of the run that the weights are from
    held_out: str | None = None  # fingerprint, split and number of the images that the neural divergence takes
    batch_statistics: int | None = None  # samples a pass whose statistics BatchNorm took; None: those it had stored
    further: dict[str, Any] = field(default_factory=dict)  # what a newer version wrote and this one does not know

    def __post_init__(self) -> None:
        for name, low in {**dict.fromkeys(_COUNTS, 1), "step": 0}.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise InputError(f"{name} of a protocol is at least {low}, not {value}")
        if self.weights not in ("ema", "raw", "images", "unknown"):
            raise InputError(f"weights of a protocol are ema, raw, images or unknown, not {self.weights!r}")
        if self.selection not in ("best", "final", None):
            raise InputError(f"selection of a protocol is best, final or null, not {self.selection!r}")

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON content, those that are not known among them."""
        content = asdict(self)
        return content | content.pop("further")

    @classmethod
    def from_dict(cls, content: Any) -> "EvaluationProtocol":
        """The protocol that ``as_dict`` turned into ``content``; InputError where a field is missing or impossible."""
        if not isinstance(content, Mapping):
            raise InputError("a protocol is a JSON object")
        hints = {name: hint for name, hint in get_type_hints(cls).items() if name != "further"}
        wrong = [f"{name} is missing" for name in hints if name not in content and name not in _MAY_BE_ABSENT]
        there = {name: hint for name, hint in hints.items() if name in content}
        wrong += [
            f"{name} cannot be {content[name]!r}" for name, hint in there.items() if not _fits(content[name], hint)
        ]
        if wrong:
            raise InputError(f"the protocol cannot be read: {few(wrong)}")
        known = {name: content[name] for name in there}
        return cls(**known, further={name: value for name, value in content.items() if name not in hints})


def _fits(value: Any, hint: Any) -> bool:
    if isinstance(value, bool):  # which Python counts among the integers
        return hint is bool
    if hint == dict[str, str]:
        return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)
    if value != value:  # NaN, which would differ from itself
        return False
    return isinstance(value, hint) or (isinstance(value, int) and hint == float | None)


def differences(a: EvaluationProtocol, b: EvaluationProtocol, metric: str | None = None) -> list[str]:
    """The reasons why two results cannot be compared, a line for each field that differs; empty if they can.

    Of a metric, fields that only other metrics depend on do not count. Those that this version does not know may
    matter, so they are compared for every metric. What identifies a run is not compared, see ``_IDENTITY``.
    """
    one, other = _compared(a, metric), _compared(b, metric)
    pairs = {name: (one.get(name), other.get(name)) for name in one | other}
    return [f"{name}: {_value(one)} and {_value(other)}" for name, (one, other) in pairs.items() if one != other]


def kind_of(protocol: EvaluationProtocol, metric: str) -> Hashable:
    """A key that two protocols share where they have no ``differences`` that concern a metric."""
    values = {name: value for name, value in _compared(protocol, metric).items() if value is not None}
    hashable = {
        name: (json.dumps(value, sort_keys=True),) for name, value in values.items() if type(value) in (list, dict)
    }
    return frozenset((values | hashable).items())


def _compared(protocol: EvaluationProtocol, metric: str | None) -> dict[str, Any]:
    """The fields that count where results are compared by a metric, or by anything."""
    if metric is not None and metric not in METRICS:
        raise ValueError(f"there is no metric {metric!r}; there are {', '.join(METRICS)}")
    ignored = {*_IDENTITY, "further"}
    if metric is not None:
        ignored |= special_settings() - set(METRICS[metric].settings) | set(METRICS[metric].ignores)
    values = {item.name: getattr(protocol, item.name) for item in fields(protocol)} | protocol.further
    return {name: value for name, value in values.items() if name not in ignored}


def _value(value: Any) -> str:
    return short("none" if value is None else repr(value) if isinstance(value, str) else value)


def short(value: Any) -> str:
    """A value in words, cut where it is long."""
    text = str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def grouped(items: Iterable[Item], key: Callable[[Item], Hashable]) -> list[list[Item]]:
    """Groups of items that share a key, in the order of their first members."""
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def require_possible(metric: str, numbers: Mapping[str, float], extractor: str) -> None:
    """Refuses numbers that no measurement of a metric, known or not, gives, and which would come first in an order."""
    known, value = METRICS.get(metric), numbers["value"]
    scaled = known is not None and known.low < 0 and known.published is not None and extractor != "inception"
    if known is not None and not (-math.inf if scaled else known.low) <= value <= known.high:
        raise InputError(f"no {metric} is {value:g}")
    if numbers.get("std", 0) < 0 or not numbers.get("low", value) <= value <= numbers.get("high", value):
        raise InputError(f"its {metric} has an impossible spread")


def label(metric: str, extractor: str) -> str:
    """The name of a metric; FID, KID and Inception Score are so called with Inception features only."""
    known = METRICS.get(metric)
    if known is not None and known.published and extractor == "inception":
        return known.published
    return f"{metric if known is None else known.title} ({extractor})"


def in_words(protocol: EvaluationProtocol, metric: str | None = None) -> str:
    """The protocol as one sentence for people, without what identifies the run; with a metric's own settings."""
    digest = f" ({protocol.extractor_hash})" if protocol.extractor_hash else ""
    further = {name: value for name, value in protocol.further.items() if name not in special_settings()}
    parts = [
        f"{protocol.samples:,} samples, {_origin(protocol)}",
        f"against {protocol.reference_count:,} images of {protocol.reference}, split {protocol.reference_split}",
        f"features {protocol.extractor}{digest} of {protocol.preprocessing}",
        "" if metric is None else settings_in_words(protocol, metric),
        *(f"{name}: {_value(value)}" for name, value in further.items() if value is not None),
    ]
    return "; ".join(filter(None, parts))


def makes_samples(protocol: EvaluationProtocol) -> str:
    """Describes which of a model's samples were measured."""
    weights = {"ema": "EMA weights", "raw": "raw weights", "images": "images"}.get(protocol.weights, "unknown weights")
    return f"{weights}, moved by the flow" if protocol.flow else weights


def _origin(protocol: EvaluationProtocol) -> str:
    words = ["from a folder of images"] if protocol.weights == "images" else []
    if protocol.selection:
        words.append(f"{protocol.selection} checkpoint")
    if protocol.weights != "images":
        truncation = "no truncation" if protocol.truncation is None else f"truncation {protocol.truncation:g}"
        words += [truncation, protocol.dtype]
    if protocol.batch_statistics is not None:
        words.append(f"BatchNorm with the statistics of each {protocol.batch_statistics} samples")
    words.append("no JPEG" if protocol.jpeg is None else f"through JPEG of quality {protocol.jpeg}")
    return ", ".join(words)


def settings_in_words(protocol: EvaluationProtocol, metric: str) -> str:
    """Describes the settings that concern one metric alone; "" if there are none, or if the metric is not known."""
    return METRICS[metric].settings_in_words(protocol) if metric in METRICS else ""


@dataclass(frozen=True)
class Preset:
    """A known protocol; what its source does not state is absent.

    Attributes:
        source: who measured so, in one line.
        options: of the evaluate command, and ``weights`` and ``selection`` as in ``EvaluationProtocol``.
        training: ``evaluate_every`` and ``keep_best`` of a training.
        by_data: data set, or data set and size such as ``celeba-hq/128`` -> ``options`` and ``training`` that replace
            those above; a ``data_split`` of None takes it away.
    """

    source: str
    options: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    by_data: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)

    def on(self, names: Iterable[str], size: int | None) -> "Preset":
        """The protocol on a data set, by any of its names; of a path the last part counts.

        Args:
            names: of the data set.
            size: height and width of its images in pixels, where it is known.
        """
        places = [place for name in map(last_part, names) for place in (name, f"{name}/{size}")]
        options, training = dict(self.options), dict(self.training)
        for found in (self.by_data[place] for place in places if place in self.by_data):
            options |= found.get("options", {})
            training |= found.get("training", {})
        if options.get("data_split", "") is None:
            del options["data_split"]
        return Preset(self.source, options, training)

    def deviations(self, name: str, protocol: EvaluationProtocol, batch_statistics: int | str | None) -> list[str]:
        """In what a measurement is not that of this protocol, which is called ``name``, a line each.

        Args:
            protocol: of the measurement.
            batch_statistics: as it was asked for, which may be ``training``.
        """
        values = protocol.as_dict()
        own = {name: values[_FIELD_OF.get(name, name)] for name in self.options if name not in _NO_FIELDS}
        if "batch_statistics" in own:
            own["batch_statistics"] = batch_statistics
        return [
            f"{option}: {_value(own[option])}, and {_value(wanted)} in the protocol {name}"
            for option, wanted in self.options.items()
            if option in own and own[option] != wanted
        ]


_NO_FIELDS = ("metrics", "resize_filter")  # options that no field of a protocol tells
# Options that a field of a protocol calls otherwise.
_FIELD_OF = {"features": "extractor", "data_split": "reference_split"}
_KNOWN = (files("licfg_hf.evaluation") / "protocols.yaml").read_text(encoding="utf-8")
PRESETS = {name: Preset(**preset) for name, preset in yaml.safe_load(_KNOWN).items()}
