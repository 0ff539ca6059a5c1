"""Measuring generated images: what can be called by itself, and what own metrics and extractors are made of."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .distances import frechet_distance as frechet_distance
    from .distances import kernel_distance as kernel_distance
    from .divergence import neural_divergence as neural_divergence
    from .extractors import Extractor as Extractor
    from .extractors import register_extractor as register_extractor
    from .metrics import Metric as Metric
    from .metrics import register_metric as register_metric
    from .neighbours import manifold as manifold
    from .statistics import GaussianStatistics as GaussianStatistics

_HOME = {  # imported only when asked for, so that a command's --help comes without PyTorch
    "Extractor": "extractors",
    "GaussianStatistics": "statistics",
    "Metric": "metrics",
    "frechet_distance": "distances",
    "kernel_distance": "distances",
    "manifold": "neighbours",
    "neural_divergence": "divergence",
    "register_extractor": "extractors",
    "register_metric": "metrics",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
