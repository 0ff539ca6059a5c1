"""Metrics, one file each: every module of this folder registers its own when the folder is imported."""

from importlib import import_module
from pkgutil import iter_modules

from .base import (
    METRICS,
    Measured,
    Metric,
    Plan,
    chosen_metrics,
    metric_options,
    register_metric,
    require_metrics,
    special_settings,
)

__all__ = [
    "METRICS",
    "Measured",
    "Metric",
    "Plan",
    "chosen_metrics",
    "metric_options",
    "register_metric",
    "require_metrics",
    "special_settings",
]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
