"""Kernel distance (Binkowski et al., ICLR 2018); on Inception features it is KID."""

from typing import TYPE_CHECKING

from ...errors import InputError
from ...text import counted
from .base import Measured, Metric, Plan, register_metric

if TYPE_CHECKING:
    from ..protocol import EvaluationProtocol


@register_metric
class KernelDistance(Metric):
    """``kernel_distance``, the mean over random subsets, or of the whole sets where there is one subset."""

    name, title, published, higher_is_better, place = "kid", "kernel distance", "KID", False, 20
    settings, low, vectors = ("kid_subsets", "kid_subset_size"), -1.0, True

    def require(self, plan: Plan) -> None:
        size = plan.config.kid_subset_size
        if plan.config.kid_subsets > 1 and size > plan.smallest:
            raise InputError(f"kid_subset_size {size} is more than the {plan.smallest} images of a side")

    def settings_in_words(self, protocol: "EvaluationProtocol") -> str:
        if protocol.kid_subsets == 1 and protocol.kid_subset_size == protocol.samples:
            return "full-sample estimate"
        return f"mean over {counted(protocol.kid_subsets, 'subset')} of {protocol.kid_subset_size:,}"

    def compute(self, measured: Measured) -> dict[str, float]:
        from ..distances import kernel_distance

        config, real, fake = measured.config, measured.real.vectors, measured.samples.vectors
        size = max(len(real), len(fake)) if config.kid_subsets == 1 else config.kid_subset_size
        value, deviation = kernel_distance(real, fake, config.kid_subsets, size, config.seed)
        return {"value": value, "std": deviation}
