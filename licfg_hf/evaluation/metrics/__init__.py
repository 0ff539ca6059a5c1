"""Metrics, one file each: every module of this folder registers its own when the folder is imported."""

from importlib import import_module
from pkgutil import iter_modules

from .base import METRICS as METRICS
from .base import Measured as Measured
from .base import Metric as Metric
from .base import Plan as Plan
from .base import chosen_metrics as chosen_metrics
from .base import metric_options as metric_options
from .base import register_metric as register_metric
from .base import require_metrics as require_metrics
from .base import special_settings as special_settings

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
