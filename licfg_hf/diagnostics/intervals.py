"""Confidence intervals of a mean over few runs."""

import math
from collections.abc import Sequence

import torch

_SHARE = 0.95  # of the distribution, within the interval


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean of independent values and the half-width of its 95 % interval (Student's t); NaN for a single value.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("there is no mean of no values")
    numbers = torch.tensor(values, dtype=torch.float64)
    mean = numbers.mean().item()
    if len(values) == 1:
        return mean, math.nan
    return mean, student_quantile(len(values) - 1) * numbers.std().item() / math.sqrt(len(values))


def student_quantile(freedom: int) -> float:
    """The t with 95 % of Student's distribution between -t and t.

    Args:
        freedom: degrees of freedom.

    Raises:
        ValueError: ``freedom`` is below 1.
    """
    if freedom < 1:
        raise ValueError(f"degrees of freedom are at least 1, not {freedom}")
    low, high = 0.0, math.pi / 2  # of the angle atan(t / sqrt(freedom)), which is bounded as t is not
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _probability_within(middle, freedom) < _SHARE else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def _probability_within(angle: float, freedom: int) -> float:
    """P(|T| <= sqrt(freedom) tan(angle)), a finite sum (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine * cosine * (power - 1) / power
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
