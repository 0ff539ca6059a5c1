"""Measurements of a critic and a generator: domains of the loss, gradient norms, latent neighbourhoods, health."""

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

__all__ = [
    "HealthMonitor",
    "LossDomain",
    "critic_statistics",
    "domain_bound",
    "gradient_norms",
    "latent_neighbourhood_size",
    "lipschitz_lower_bound",
    "loss_domain",
    "memorization_gap",
    "operator_norm",
    "operator_norms",
]
