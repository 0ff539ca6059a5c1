"""One update of both players, of everything that the library has, gives the CPU's numbers on a strict device."""

import accelerator
import pytest
import torch
from players import PLAYERS, update_both
from regularizers import NORMALIZERS

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
    get_loss,
    r1_penalty,
    r2_penalty,
    wgan_gp,
)
from licfg_hf.objective.losses import _LOSSES

LOSSES = [*_LOSSES, "relativistic"]
METHODS = ("exact", "tangent", "finite_difference")
PENALTIES = {
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
TERMS = {
    "consistency": lambda: ConsistencyRegularization(1.0),
    "augmented_consistency": lambda: ConsistencyRegularization(1.0, augmentation=DifferentiableAugmentation()),
    "balanced_consistency": lambda: BalancedConsistencyRegularization(1.0),
    "latent_consistency": lambda: LatentConsistencyRegularization(),
    "adversarial": lambda: AdversarialLipschitzPenalty(lipschitz_constant=0.0),
}


def require_equal(found: dict, wanted: dict, tolerance: float = 1e-4) -> None:
    """Both hold the same names, and values that differ by rounding."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        error = torch.linalg.vector_norm(found[name] - value)
        assert error <= tolerance * torch.linalg.vector_norm(value) + 1e-6, name


def on_both(device: torch.device, kind: str, terms=(), critic=(), **options) -> None:
    """The update on the device, which has no float64, against that on the CPU."""
    wanted = update_both(PLAYERS[kind](**dict(critic)), torch.device("cpu"), terms, **options)
    with accelerator.like_mps():
        found = update_both(PLAYERS[kind](**dict(critic)), device, terms, **options)
    require_equal(found, wanted)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("kind", PLAYERS)
def test_a_penalty_is_that_of_the_cpu(device, kind, penalty, method):
    on_both(device, kind, [PENALTIES[penalty](method)])


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("kind", PLAYERS)
def test_a_further_term_is_that_of_the_cpu(device, kind, term):
    if kind == "ddgan" and term == "latent_consistency":
        pytest.skip("a denoising generator has no latent alone to move")
    on_both(device, kind, [TERMS[term]()])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("alpha", (1.0, 0.5))
def test_a_loss_is_that_of_the_cpu(device, loss, alpha):
    on_both(device, "sngan", loss=loss, alpha=alpha)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_domain_of_a_loss_is_that_of_the_cpu(device, loss):
    real, fake = torch.linspace(-2, 2, 8), torch.linspace(-1, 3, 8)
    function = get_loss(loss, alpha=0.5)
    wanted = function.slopes(real, fake) | function.excess_over_zero(real, fake)
    with accelerator.like_mps():
        found = function.slopes(real.to(device), fake.to(device))
        found |= function.excess_over_zero(real.to(device), fake.to(device))
    for name, value in wanted.items():
        torch.testing.assert_close(found[name].cpu().double(), value.double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("kind", PLAYERS)
def test_a_normalized_critic_is_that_of_the_cpu(device, kind, normalizer):
    on_both(device, kind, [EpsCenteredGradientPenalty(1.0)], {"normalizers": NORMALIZERS[normalizer]})


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("kind", PLAYERS)
def test_half_precision_stays_finite(device, kind, normalizer):
    players = PLAYERS[kind](normalizers=NORMALIZERS[normalizer])
    with accelerator.like_mps():
        found = update_both(players, device, [EpsCenteredGradientPenalty(1.0)], bf16=True)
    assert all(torch.isfinite(value).all() for value in found.values())
