"""Fréchet distance of the two Gaussians (Heusel et al., NeurIPS 2017); on Inception features it is FID."""

from .base import Measured, Metric, register_metric


@register_metric
class FrechetDistance(Metric):
    """``frechet_distance`` of all features."""

    name, title, published, higher_is_better, place = "fid", "Fréchet distance", "FID", False, 10

    def compute(self, measured: Measured) -> dict[str, float]:
        from ..distances import gaussian_distance

        return {"value": gaussian_distance(measured.real.moments, measured.samples.moments)}
