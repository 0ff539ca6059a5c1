"""Metrics of the samples' classes, told by a classifier."""

from ...errors import InputError
from .base import Measured, Metric, Plan, register_metric

_COVERED = 0.25  # a class counts as covered from this multiple of its fair share on


class _OfClasses(Metric):
    option, classes, by_class, higher_is_better = "acc", True, True, True

    def require(self, plan: Plan) -> None:
        known = plan.extractor
        if plan.classes not in (None, known.classes):
            raise InputError(f"the model has {plan.classes} classes and {known.name} {known.classes}")


@register_metric
class ClassAccuracy(_OfClasses):
    """Share of the samples asked for by class that the classifier takes for it."""

    name, title, high, conditional, place = "class_accuracy", "class accuracy", 1.0, True, 60

    def compute(self, measured: Measured) -> dict[str, float] | None:
        if not measured.asked.any():
            return None
        return {"value": float(measured.hits.sum() / measured.asked.sum())}


@register_metric
class ClassesCovered(_OfClasses):
    """Classes that have at least a quarter of their fair share of the samples."""

    name, title, place = "classes_covered", "classes covered", 61

    def compute(self, measured: Measured) -> dict[str, float]:
        fair = measured.samples.moments.count / len(measured.predicted)
        return {"value": float((measured.predicted >= _COVERED * fair).sum())}
