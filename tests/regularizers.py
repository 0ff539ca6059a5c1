"""Every penalty and every normalizer of the library, for tests that a discriminator takes all of them."""

import torch

from licfg_hf import (
    AdversarialLipschitzPenalty,
    BalancedConsistencyRegularization,
    ConsistencyRegularization,
    DifferentiableAugmentation,
    EpsCenteredGradientPenalty,
    GradientPenalty,
    LatentConsistencyRegularization,
    MaxGradientPenalty,
    dragan,
    r1_penalty,
    r2_penalty,
    wgan_gp,
)

PENALTIES = {
    "eps_centered": EpsCenteredGradientPenalty(1.0),
    "zero_centered": GradientPenalty(1.0),
    "one_centered": wgan_gp(),
    "max": MaxGradientPenalty(1.0),
    "dragan": dragan(),
    "r1": r1_penalty(1.0),
    "r2": r2_penalty(1.0),
    "adversarial": AdversarialLipschitzPenalty(lipschitz_constant=0.0),
}
METHODS = ("exact", "tangent", "finite_difference")
PENALTIES_BY_METHOD = {
    "eps_centered": lambda method: EpsCenteredGradientPenalty(1.0, method=method),
    "eps_centered_minus_ones": lambda method: EpsCenteredGradientPenalty(1.0, direction="minus_ones", method=method),
    "eps_centered_random": lambda method: EpsCenteredGradientPenalty(1.0, direction="random", method=method),
    "wgan_gp": lambda method: wgan_gp(1.0, method),
    "max": lambda method: MaxGradientPenalty(1.0, method=method),
    "dragan": lambda method: dragan(1.0, method),
    "r1": lambda method: r1_penalty(1.0, method),
    "r2": lambda method: r2_penalty(1.0, method),
    "real_and_fake": lambda method: GradientPenalty(1.0, points="real_and_fake", method=method),
}
FURTHER_TERMS = {
    "consistency": lambda: ConsistencyRegularization(1.0),
    "augmented_consistency": lambda: ConsistencyRegularization(1.0, augmentation=DifferentiableAugmentation()),
    "balanced_consistency": lambda: BalancedConsistencyRegularization(1.0),
    "augmented_balanced_consistency": lambda: BalancedConsistencyRegularization(
        1.0, augmentation=DifferentiableAugmentation()
    ),
    "latent_consistency": lambda: LatentConsistencyRegularization(),
    "adversarial": lambda: AdversarialLipschitzPenalty(lipschitz_constant=0.0),
}
NORMALIZERS = {
    "none": (),
    "spectral": ({"kind": "spectral", "k": 2.0},),
    "stable_rank": ({"kind": "stable_rank", "rank_ratio": 0.7, "k": 1.0},),
    "gradient": ({"kind": "gradient"},),
    "penalty_gradient": ({"kind": "penalty_gradient", "formula": "elementwise"},),
    "penalty_gradient_norm": ({"kind": "penalty_gradient", "formula": "norm"},),
    "spectral_and_gradient": ({"kind": "spectral", "k": 1.0}, {"kind": "gradient"}),
}


def require_trained_by_every_penalty(discriminator, real, fake, rng, **conditioning):
    """Each penalty is finite and gives finite gradients, not all zero, to parameters; frozen ones get none."""
    for name, penalty in PENALTIES.items():
        discriminator.zero_grad(set_to_none=True)
        value = penalty(discriminator, real, fake, rng=rng, **conditioning)
        assert value.ndim == 0 and torch.isfinite(value), name
        value.backward()
        gradients = [p.grad for p in discriminator.parameters() if p.grad is not None]
        assert all(torch.isfinite(gradient).all() for gradient in gradients), name
        assert any((gradient != 0).any() for gradient in gradients), name
        assert all(p.grad is None for p in discriminator.parameters() if not p.requires_grad), name
