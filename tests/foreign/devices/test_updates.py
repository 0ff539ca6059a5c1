"""One update of both players, of everything that the library has, gives the CPU's numbers on a strict device."""

import accelerator
import pytest
import torch
from players import PLAYERS, update_both
from regularizers import FURTHER_TERMS, METHODS, NORMALIZERS, PENALTIES_BY_METHOD

from licfg_hf import EpsCenteredGradientPenalty, get_loss
from licfg_hf.objective.losses import LOSS_NAMES


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
@pytest.mark.parametrize("penalty", PENALTIES_BY_METHOD)
@pytest.mark.parametrize("kind", PLAYERS)
def test_a_penalty_is_that_of_the_cpu(device, kind, penalty, method):
    on_both(device, kind, [PENALTIES_BY_METHOD[penalty](method)])


@pytest.mark.parametrize("term", FURTHER_TERMS)
@pytest.mark.parametrize("kind", PLAYERS)
def test_a_further_term_is_that_of_the_cpu(device, kind, term):
    if kind == "ddgan" and term == "latent_consistency":
        pytest.skip("a denoising generator has no latent alone to move")
    on_both(device, kind, [FURTHER_TERMS[term]()])


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("alpha", (1.0, 0.5))
def test_a_loss_is_that_of_the_cpu(device, loss, alpha):
    on_both(device, "sngan", loss=loss, alpha=alpha)


@pytest.mark.parametrize("loss", LOSS_NAMES)
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
