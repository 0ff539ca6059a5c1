"""Normalizers: what keeps a critic Lipschitz by changing the critic, its weights or its output."""

from .outputs import GradientNormalized, OutputNormalized, PenaltyGradientNormalized
from .weights import (
    clip_weights_,
    refresh_power_iterations,
    remove_weight_normalization,
    spectral_normalize,
    stable_rank_normalize,
)

__all__ = [
    "GradientNormalized",
    "OutputNormalized",
    "PenaltyGradientNormalized",
    "clip_weights_",
    "refresh_power_iterations",
    "remove_weight_normalization",
    "spectral_normalize",
    "stable_rank_normalize",
]
