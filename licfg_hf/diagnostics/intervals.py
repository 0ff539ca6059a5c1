"""Confidence intervals of means over few runs, and of the difference of two such means."""

import math
from collections.abc import Sequence
from statistics import variance

import numpy as np
from scipy.special import stdtrit  # scipy.stats takes a second longer to import

_SHARE = 0.95  # of the distribution, within the interval


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean of independent values and the half-width of its 95 % interval (Student's t); NaN for a single value."""
    if not values:
        raise ValueError("there is no mean of no values")
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, math.nan
    return mean, student_quantile(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def student_quantile(freedom: int) -> float:
    """The t with 95 % of Student's distribution of ``freedom`` degrees, at least 1, between -t and t."""
    if freedom < 1:
        raise ValueError(f"degrees of freedom are at least 1, not {freedom}")
    return float(stdtrit(freedom, (1 + _SHARE) / 2))


def welch(first: Sequence[float], second: Sequence[float]) -> float:
    """Half-width of the 95 % interval of a difference of means, without assuming equal variances (Welch).

    The two have at least two independent values each. The degrees of freedom are Welch-Satterthwaite's, rounded down,
    which widens the interval.
    """
    shares = [variance(values) / len(values) for values in (first, second)]
    total = sum(shares)
    if total == 0:
        return 0.0
    # In shares of the total, so that small variances do not underflow when squared.
    weights = [(share / total) ** 2 for share in shares]
    freedom = 1 / sum(weight / (len(values) - 1) for weight, values in zip(weights, (first, second), strict=True))
    # Two equal variances give a whole number but for rounding, which must not cost a degree.
    return student_quantile(max(1, math.floor(freedom + 1e-9))) * math.sqrt(total)
