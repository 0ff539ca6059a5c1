"""The base class of metrics, and their registry; without PyTorch, so that a command's ``--help`` comes at once.

A metric of your own is one class, in the package or outside of it::

    @register_metric
    class Brightness(Metric):
        name, title, higher_is_better = "brightness", "mean brightness", True
        pixels = 500  # it looks at the first 500 samples

        def compute(self, measured):
            return {"value": measured.pixels.float().mean().item() / 255}

Once its module is imported, ``--metrics brightness`` measures it, ``eval.json`` keeps it and ``compare`` ranks by it.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...errors import InputError

if TYPE_CHECKING:
    import torch

    from ...data import ImageSet
    from ..extractors import Extractor
    from ..neighbours import Manifold
    from ..options import EvaluationConfig
    from ..protocol import EvaluationProtocol
    from ..statistics import ClassStatistics, Features


@dataclass(frozen=True)
class Plan:
    """The facts of a measurement that are known before it begins."""

    config: "EvaluationConfig"
    samples: int
    classes: int | None  # by which samples are asked for, where they are
    reference: "ImageSet"
    extractor: "Extractor"
    held_out: "ImageSet | None" = None  # reference images that no generator was trained on

    @property
    def smallest(self) -> int:
        """Images of the smaller side."""
        return min(self.samples, len(self.reference))


@dataclass
class Measured:
    """The results of the passes over both sides, from which metrics are computed.

    What no metric asked for is absent (None) or empty: the type is that of what a metric that asks finds.
    """

    config: "EvaluationConfig"
    real: "Features"  # of the reference images
    samples: "Features"  # with their vectors where a metric says ``vectors``
    scores: "ClassStatistics"  # class probabilities of the samples, where a metric says ``probabilities``
    hits: "torch.Tensor"  # samples by the class asked for that the classifier takes for it, int64 (classes,)
    asked: "torch.Tensor"  # samples by the class asked for
    predicted: "torch.Tensor"  # samples by the class that the classifier takes them for
    pixels: "torch.Tensor"  # the first samples, uint8 (n, channels, height, width), as many as a metric says
    held_out: "ImageSet"  # images that no generator was trained on, where a metric says ``held_out``

    @cached_property
    def manifold(self) -> "Manifold":
        """Overlap of both sides, computed once for all metrics that are made of it."""
        from ..neighbours import manifold

        return manifold(self.real.vectors, self.samples.vectors, self.config.neighbours)


class Metric:
    """A number of a result. Subclasses set ``name``, ``title`` and ``higher_is_better`` and define ``compute``."""

    name: str  # in ``eval.json``
    title: str  # for people, whatever the features are
    higher_is_better: bool
    option: str = ""  # on the command line, where several may share one; ``name`` where it is not given
    published: str | None = None  # the name that the literature reserves for Inception features
    settings: tuple[str, ...] = ()  # fields of the protocol that no other metric depends on, unless it lists them too
    added: Mapping[str, Any] = {}  # settings of its own, which become further fields of the protocol: JSON values
    ignores: tuple[str, ...] = ()  # fields that it does not depend on, though the others do
    # No value is outside; -1 stands for estimates that stray a little below 0. How far those of a kernel distance
    # stray depends on the features' scale, so that ``low`` holds for Inception features there.
    low: float = 0.0
    high: float = math.inf
    vectors: bool = False  # it needs the feature vectors, not only their moments
    classes: bool = False  # it needs features that come with classes
    probabilities: bool = False  # it needs class probabilities, and so such features
    by_class: bool = False  # the result also lists every class
    conditional: bool = False  # there is a number only where samples are asked for by class
    pixels: int = 0  # it needs the pixels of so many first samples
    held_out: bool = False  # it needs reference images that no generator was trained on
    place: int = 100  # in lists, the lower the earlier

    def require(self, plan: Plan) -> None:
        """Raises InputError where it cannot be computed, before long work begins."""

    def settings_in_words(self, protocol: "EvaluationProtocol") -> str:
        """Describes the settings that concern this metric alone; "" if there are none."""
        return ", ".join(f"{name}: {value}" for name, value in self.added.items())

    def compute(self, measured: Measured) -> dict[str, float] | None:
        """Its ``value`` and, where known, ``std``, ``low`` and ``high``; None where there is no number."""
        raise NotImplementedError


METRICS: dict[str, Metric] = {}  # by name; in order of place once the package's own are registered


def register_metric(kind: type[Metric]) -> type[Metric]:
    """Class decorator: makes a metric known to every command of this process.

    ValueError where it lacks a name, a title or a direction, or another class has its name.
    """
    lacking = [name for name in ("name", "title", "higher_is_better") if not hasattr(kind, name)]
    if lacking:
        raise ValueError(f"the metric {kind.__name__} needs {', '.join(lacking)}")
    known = METRICS.get(kind.name)
    if known is not None and type(known).__qualname__ != kind.__qualname__:
        raise ValueError(f"there is a metric {kind.name!r} already, {type(known).__qualname__}")
    METRICS[kind.name] = metric = kind()
    metric.option = metric.option or metric.name
    metric.settings = (*metric.settings, *metric.added)
    in_order = sorted(METRICS.values(), key=lambda one: one.place)
    METRICS.clear()
    METRICS.update({one.name: one for one in in_order})
    return kind


def special_settings() -> set[str]:
    """Fields of a protocol, known and further ones, that only some metrics depend on."""
    return {name for metric in METRICS.values() for name in metric.settings}


def metric_options() -> list[str]:
    """Names of metrics on the command line."""
    return list(dict.fromkeys(metric.option for metric in METRICS.values()))


def chosen_metrics(options: Iterable[str]) -> list[Metric]:
    """The metrics that names on the command line stand for, in their order in a result."""
    wanted = set(options)
    return [metric for metric in METRICS.values() if metric.option in wanted]


def require_metrics(plan: Plan) -> None:
    """Raises InputError, before long work begins, where a metric that is asked for cannot be computed."""
    chosen, extractor = chosen_metrics(plan.config.metrics), plan.extractor
    for metric in chosen:
        if (metric.classes or metric.probabilities) and extractor.classes is None:
            lacking = f"class logits, which {extractor.name} does not give"
            raise InputError(f"{metric.option} needs {lacking}: choose a classifier")
    if plan.smallest < 2:
        raise InputError("metrics need at least two images of each side")
    for metric in chosen:
        metric.require(plan)
