"""Divergence from images that no generator was trained on; see ``licfg_hf.evaluation.divergence``."""

import math

from ...errors import InputError
from .base import Measured, Metric, Plan, register_metric

JUDGED = 2000  # images of each side that the critic sees
SMALLEST_SET = 40  # images in a set: half of them learn, and a quarter of those choose when to stop
LARGEST_SIDE = 64  # pixels


@register_metric
class NeuralDivergence(Metric):
    """``neural_divergence`` of held-out images and samples."""

    name, title, option, higher_is_better, place = "neural_divergence", "neural divergence", "nd", False, 70
    settings, low, high, pixels, held_out = ("held_out",), -1.0, math.log(2), JUDGED, True
    ignores = ("extractor", "extractor_hash", "preprocessing")
    ignores += ("reference_fingerprint", "reference_split", "reference_count")

    def require(self, plan: Plan) -> None:
        if plan.held_out is None:
            raise InputError("nd needs held-out images: measure it with licfg-hf evaluate")
        count, (_, height, width) = len(plan.held_out), plan.reference.shape
        if min(count, plan.samples) < SMALLEST_SET or max(height, width) > LARGEST_SIDE:
            raise InputError(
                f"nd needs at least {SMALLEST_SET} images of each side, of at most {LARGEST_SIDE} pixels; there are "
                f"{count} held-out images and {plan.samples} samples of {width}x{height}"
            )

    def compute(self, measured: Measured) -> dict[str, float]:
        import torch

        from ..divergence import neural_divergence

        held_out = measured.held_out
        real = held_out.fetch(torch.arange(len(held_out)), seed=0).cpu()
        found = neural_divergence(real, measured.pixels[:JUDGED], seed=measured.config.seed)
        return {"value": found.value, "low": found.low, "high": found.high}
