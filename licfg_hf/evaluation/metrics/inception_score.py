"""Class score (Salimans et al., 2016); with Inception's classes it is the Inception Score."""

from typing import TYPE_CHECKING

from ...errors import InputError
from ...text import counted
from .base import Measured, Metric, Plan, register_metric

if TYPE_CHECKING:
    from ..protocol import EvaluationProtocol


@register_metric
class ClassScore(Metric):
    """``inception_score``, the mean over splits of the samples."""

    name, title, published, higher_is_better, place = "is", "class score", "Inception Score", True, 30
    settings, low, probabilities = ("is_splits",), 1.0, True

    def require(self, plan: Plan) -> None:
        if plan.samples < plan.config.is_splits:
            raise InputError(f"is over {plan.config.is_splits} splits needs as many samples, not {plan.samples}")

    def settings_in_words(self, protocol: "EvaluationProtocol") -> str:
        return f"mean over {counted(protocol.is_splits, 'split')}"

    def compute(self, measured: Measured) -> dict[str, float]:
        from ..statistics import inception_score

        value, deviation = inception_score(measured.scores)
        return {"value": value, "std": deviation}
