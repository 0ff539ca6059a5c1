"""The overlap of two sets of features, by balls that reach to the k-th nearest neighbour; see ``Manifold``."""

from typing import TYPE_CHECKING

from ...errors import InputError
from .base import Measured, Metric, Plan, register_metric

if TYPE_CHECKING:
    from ..protocol import EvaluationProtocol


class _Overlap(Metric):
    """A number of ``Manifold``, the one of its own name."""

    settings, vectors, higher_is_better, high = ("neighbours",), True, True, 1.0

    def require(self, plan: Plan) -> None:
        k = plan.config.neighbours
        if plan.smallest <= k:
            raise InputError(f"k = {k} neighbours need more images than the {plan.smallest} of a side")

    def settings_in_words(self, protocol: "EvaluationProtocol") -> str:
        return f"k = {protocol.neighbours} neighbours"

    def compute(self, measured: Measured) -> dict[str, float]:
        return {"value": getattr(measured.manifold, self.name)}


@register_metric
class Precision(_Overlap):
    """Share of fakes inside some real ball (Kynkäänniemi et al., NeurIPS 2019)."""

    name, title, option, place = "precision", "precision", "pr", 40


@register_metric
class Recall(_Overlap):
    """Share of reals inside some fake ball (Kynkäänniemi et al., NeurIPS 2019)."""

    name, title, option, place = "recall", "recall", "pr", 41


@register_metric
class Density(_Overlap):
    """Real balls that a fake is inside of, on average, over k (Naeem et al., ICML 2020); may exceed 1."""

    name, title, option, place, high = "density", "density", "dc", 50, float("inf")


@register_metric
class Coverage(_Overlap):
    """Share of real balls that hold a fake (Naeem et al., ICML 2020)."""

    name, title, option, place = "coverage", "coverage", "dc", 51
