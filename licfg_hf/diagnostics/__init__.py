"""Measurements of a critic and a generator: loss domains, gradient norms, neighbourhoods, health, weights."""

from .critic import (
    LossDomain,
    critic_statistics,
    gradient_norms,
    latent_neighbourhood_size,
    lipschitz_lower_bound,
    loss_domain,
    memorization_gap,
)
from .health import HealthMonitor
from .lipschitz import domain_bound, operator_norm, operator_norms
from .tuning import PenaltyTuning, ProbedWeight, ProbeStep, tune_penalty

__all__ = [
    "HealthMonitor",
    "LossDomain",
    "PenaltyTuning",
    "ProbeStep",
    "ProbedWeight",
    "critic_statistics",
    "domain_bound",
    "gradient_norms",
    "latent_neighbourhood_size",
    "lipschitz_lower_bound",
    "loss_domain",
    "memorization_gap",
    "operator_norm",
    "operator_norms",
    "tune_penalty",
]
