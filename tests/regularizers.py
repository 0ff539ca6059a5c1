"""Every penalty and every normalizer of the library, for tests that a discriminator takes all of them."""

import torch

from licfg_hf import (
    AdversarialLipschitzPenalty,
    EpsCenteredGradientPenalty,
    GradientPenalty,
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
