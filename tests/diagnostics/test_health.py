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
    """phi(x) = x without a Lipschitz term: the critic w x grows without end, and all its outputs move away."""
    loss, weight = get_loss("wasserstein"), torch.zeros((), requires_grad=True)
    monitor, found = HealthMonitor(loss, window=10), set()
    for _ in range(30):
        real, fake = weight * (50 + torch.randn(32)), weight * (49 + torch.randn(32))
        found |= names(monitor.update(real, fake))
        (push,) = torch.autograd.grad(loss.discriminator(real, fake), weight)
        with torch.no_grad():
            weight -= 0.1 * push
    assert "drifting outputs" in found


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


def test_a_generator_alone_against_its_critic_collapses():
    """Nobody answers the generator: it moves every sample to the one point that the critic likes best."""
    torch.manual_seed(0)
    loss, generator = get_loss("hinge"), nn.Linear(4, 2)
    optimizer = torch.optim.Adam(generator.parameters(), lr=0.05)
    monitor, found = HealthMonitor(loss), set()

    def critic(points: torch.Tensor) -> torch.Tensor:
        return 1 - (points - 1).square().sum(dim=1)

    for _ in range(200):
        real, fake = torch.randn(64, 2), generator(torch.randn(64, 4))
        found |= names(monitor.update(critic(real), critic(fake), real, fake))
        optimizer.zero_grad()
        loss.generator(critic(fake)).backward()
        optimizer.step()
    assert found == {"collapse"}


def test_a_perfect_critic_leaves_the_minimax_generator_without_gradient():
    """Disjoint supports, no Lipschitz term, the saturating loss (Goodfellow et al., Arjovsky et al.)."""
    torch.manual_seed(0)
    loss, generator = get_loss("minimax"), nn.Linear(2, 2)
    critic = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(critic.parameters(), lr=5e-2)
    monitor, lines = HealthMonitor(loss), []
    for _ in range(500):
        real, fake = torch.randn(64, 2) + 6, generator(torch.randn(64, 2))
        logits = critic(fake)
        gradient = torch.autograd.grad(loss.generator(logits), list(generator.parameters()), retain_graph=True)
        norm = torch.stack([part.norm() for part in gradient]).norm().item()
        lines += monitor.update(critic(real), logits, generator_gradient_norm=norm)
        optimizer.zero_grad()
        loss.discriminator(critic(real), critic(fake.detach())).backward()
        optimizer.step()
    assert "vanishing generator gradient" in names(lines)
    assert all(";" in line for line in lines)  # each says what to change


def test_a_healthy_run_is_quiet():
    monitor = HealthMonitor(get_loss("non_saturating"), window=10)
    rng = torch.Generator().manual_seed(0)
    for _ in range(30):
        real, fake = (torch.randn(64, generator=rng) + shift for shift in (0.5, -0.5))
        assert monitor.update(real, fake, torch.randn(64, 8), torch.randn(64, 8), 1.0) == []
    with pytest.raises(ValueError, match="window"):
        HealthMonitor(get_loss("hinge"), window=1)
