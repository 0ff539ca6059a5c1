"""Each failure is provoked by a toy run or by the numbers that define it."""

import pytest
import torch
from torch import nn

from licfg_hf import get_loss, spectral_normalize
from licfg_hf.diagnostics import HealthMonitor


def names(warnings: list[str]) -> set[str]:
    return {warning.partition(":")[0] for warning in warnings}


def train(k: float, alpha: float, loss_name: str = "non_saturating", steps: int = 60) -> set[str]:
    """A small GAN on far-apart data whose critic has the spectral norm k in each layer."""
    torch.manual_seed(0)
    loss = get_loss(loss_name, alpha=alpha)
    critic = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    spectral_normalize(critic, k=k)
    generator = nn.Linear(2, 2)
    optimizers = [torch.optim.Adam(network.parameters(), lr=1e-2) for network in (critic, generator)]
    monitor, found = HealthMonitor(loss, window=20), set()
    for _ in range(steps):
        real, latents = torch.randn(64, 2) + torch.tensor([4.0, 0.0]), torch.randn(64, 2)
        fake = generator(latents)
        optimizers[0].zero_grad()
        loss.discriminator(critic(real), critic(fake.detach())).backward()
        optimizers[0].step()
        optimizers[1].zero_grad()
        logits = critic(generator(latents))
        loss.generator(logits).backward()
        norm = torch.stack([p.grad.norm() for p in generator.parameters()]).norm().item()
        optimizers[1].step()
        found |= names(monitor.update(critic(real), logits, real, fake, norm))
    return found


def test_strong_critic_saturates_or_explodes_and_scaling_or_a_small_k_heals():
    """Qin et al., Fig. 5: k_SN = 50 with alpha = 0.1 fails; alpha -> 0 or k_SN = 1 does not."""
    assert train(k=50.0, alpha=0.1, loss_name="least_squares_zero_centered") & {"exploding slopes", "saturated slopes"}
    healthy = {"exploding slopes", "saturated slopes"}
    assert not train(k=50.0, alpha=1e-11, loss_name="least_squares_zero_centered") & healthy
    assert not train(k=1.0, alpha=1.0) & healthy


def test_saturation_of_the_minimax_loss():
    monitor = HealthMonitor(get_loss("minimax"))
    assert names(monitor.update(torch.full((8,), 20.0), torch.full((8,), -20.0))) == {"saturated slopes"}
    assert monitor.update(torch.full((8,), 20.0), torch.full((8,), -20.0)) == []  # said once


def test_an_overflowing_loss_is_named_not_raised():
    monitor = HealthMonitor(get_loss("exponential"))
    assert names(monitor.update(torch.full((4,), 800.0), torch.full((4,), -800.0))) == {"exploding slopes"}


def test_a_linear_loss_lets_the_outputs_drift():
    """phi(x) = x does not fix the critic's constant: an unregularized critic walks away."""
    monitor, found = HealthMonitor(get_loss("wasserstein"), window=10), set()
    for step in range(12):
        found |= names(monitor.update(torch.randn(16) + 10 * step, torch.randn(16) + 10 * step - 1))
    assert found == {"drifting outputs"}


def test_a_bilinear_game_oscillates():
    """f(x) = w x against a point mass at theta: simultaneous gradient steps circle around the equilibrium."""
    loss, monitor, found = get_loss("wasserstein"), HealthMonitor(get_loss("wasserstein"), window=20), set()
    weight, theta = torch.tensor(1.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    for _ in range(60):
        real, fake = torch.zeros(4) * weight, theta * weight * torch.ones(4)
        found |= names(monitor.update(real, fake))
        (push,) = torch.autograd.grad(loss.discriminator(real, fake), weight)
        (pull,) = torch.autograd.grad(loss.generator(theta * weight * torch.ones(4)), theta)
        with torch.no_grad():
            weight -= 1.4 * push
            theta -= 1.4 * pull
    assert "oscillation" in found


def test_collapse_and_vanishing_gradient():
    monitor = HealthMonitor(get_loss("non_saturating"))
    real = torch.randn(64, 1, 4, 4)
    assert monitor.update(torch.zeros(64), torch.zeros(64), real, torch.randn(64, 1, 4, 4), 1.0) == []
    lines = monitor.update(torch.zeros(64), torch.zeros(64), real, torch.ones(64, 1, 4, 4), 1e-6)
    assert names(lines) == {"collapse", "vanishing generator gradient"}
    assert all(";" in line for line in lines)  # each says what to change


def test_a_healthy_run_is_quiet():
    monitor = HealthMonitor(get_loss("non_saturating"), window=10)
    rng = torch.Generator().manual_seed(0)
    for _ in range(30):
        real, fake = (torch.randn(64, generator=rng) + shift for shift in (0.5, -0.5))
        assert monitor.update(real, fake, torch.randn(64, 8), torch.randn(64, 8), 1.0) == []
    with pytest.raises(ValueError, match="window"):
        HealthMonitor(get_loss("hinge"), window=1)
