import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from licfg_hf import get_loss, spectral_normalize
from licfg_hf.diagnostics import (
    critic_statistics,
    gradient_norms,
    latent_neighbourhood_size,
    lipschitz_lower_bound,
    loss_domain,
    memorization_gap,
)
from licfg_hf.objective.weights import refresh_power_iterations


class Linear(nn.Module):
    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, points):
        return points.flatten(1) @ self.weight


def normalized_network(k: float, width: int, channels: int = 3, size: int = 8) -> nn.Module:
    """A dense network whose Lipschitz constant is at most k."""
    dim = channels * size * size
    layers = [nn.Flatten(), nn.Linear(dim, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(width, 1))
    return refresh_power_iterations(spectral_normalize(network, k=k ** (1 / 3)), iterations=100).eval()


@settings(max_examples=25, deadline=None)
@given(k=st.sampled_from([0.1, 1.0, 5.0]), width=st.integers(4, 32), seed=st.integers(0, 2**31))
def test_theorem_1_of_qin_bounds_the_range(k, width, seed):
    """f k-Lipschitz on [-1, 1]^{m x n x 3}: max f - min f <= k sqrt(12 m n), the diameter of the cube times k."""
    torch.manual_seed(seed)
    critic = normalized_network(k, width)
    images = torch.rand(64, 3, 8, 8) * 2 - 1
    corners = torch.sign(images)
    domain = loss_domain(get_loss("hinge"), critic(images), critic(corners))
    assert domain.omega[1] - domain.omega[0] <= k * math.sqrt(12 * 8 * 8) * (1 + 1e-3)


@settings(max_examples=25, deadline=None)
@given(
    k=st.sampled_from([0.1, 1.0]),
    seed=st.integers(0, 2**31),
    name=st.sampled_from(["non_saturating", "least_squares", "cosine"]),
)
def test_corollary_1_of_qin_bounds_the_slopes(k, seed, name):
    """The slopes of the loss differ by at most M K sqrt(12 m n), M the largest |L''|."""
    torch.manual_seed(seed)
    critic = normalized_network(k, 16)
    images = torch.rand(64, 3, 8, 8) * 2 - 1
    domain = loss_domain(get_loss(name), critic(images[:32]), critic(images[32:]))
    steepest = {"non_saturating": 0.25, "least_squares": 2.0, "cosine": 1.0}[name]
    for slopes in (domain.real_slope, domain.fake_slope, domain.generator_slope):
        assert slopes[1] - slopes[0] <= steepest * k * math.sqrt(12 * 64) * (1 + 1e-3)


def test_domain_and_slopes_of_known_logits():
    domain = loss_domain(get_loss("least_squares"), torch.tensor([-0.414, 0.5]), torch.tensor([0.0, 1.881]))
    assert domain.omega == pytest.approx((-0.414, 1.881))
    assert domain.real_slope == pytest.approx((-2.828, -1.0))  # 2 (r - 1)
    assert domain.fake_slope == pytest.approx((0.0, 3.762))  # 2 f, as in Qin's Table 2
    scaled = loss_domain(get_loss("non_saturating", alpha=1e-25), torch.tensor([100.0]), torch.tensor([-100.0]))
    assert scaled.real_slope == pytest.approx((-0.5, -0.5)) and scaled.fake_slope == pytest.approx((0.5, 0.5))


def test_relativistic_slopes_are_those_of_pairs():
    domain = loss_domain(get_loss("relativistic"), torch.full((4,), 100.0), torch.full((4,), 100.0))
    assert domain.real_slope == (-0.5, -0.5) and domain.fake_slope == (0.5, 0.5)
    assert domain.generator_slope == (-0.5, -0.5)


def test_gradient_norms_of_a_linear_critic(rng):
    weight = torch.randn(12, generator=rng)
    real, fake = (torch.randn(5, 3, 2, 2, generator=rng) for _ in range(2))
    torch.testing.assert_close(gradient_norms(Linear(weight), real), weight.norm().expand(5))
    found = critic_statistics(Linear(weight), real, fake, rng=rng)
    assert len(found) == 15
    assert all(value == pytest.approx(weight.norm().item(), rel=1e-5) for value in found.values())


def test_lower_bound_reaches_the_constant_and_never_passes_it(rng):
    weight = torch.randn(12, generator=rng)
    found = lipschitz_lower_bound(Linear(weight), torch.zeros(4, 3, 2, 2), steps=100, rng=rng)
    assert 0.95 * weight.norm() < found <= weight.norm() * (1 + 1e-4)
    shifted = lipschitz_lower_bound(lambda x: x.flatten(1)[:, 0] + 1e4, torch.zeros(4, 3, 2, 2), steps=100, rng=rng)
    assert shifted < 1.3  # float32 leaves 1e-3 of 1e4, divided by at least a tenth of the rate
    torch.manual_seed(0)
    critic = normalized_network(2.0, 16)
    points = torch.randn(32, 3, 8, 8, generator=rng)
    bound = lipschitz_lower_bound(critic, points, rng=rng)
    assert gradient_norms(critic, points).mean() < bound <= 2.0 * (1 + 1e-3)


def test_memorization_gap():
    offset = lambda x, shift: x.sum(1) + shift  # noqa: E731
    assert memorization_gap(offset, torch.zeros(3, 2), torch.zeros(4, 2), {"shift": 1.0}, {"shift": 3.0}) == -2
    assert memorization_gap(Linear(torch.ones(2)), torch.ones(3, 2), torch.zeros(4, 2)) == pytest.approx(2.0)


def test_latent_neighbourhood_of_a_linear_generator(rng):
    matrix = torch.randn(6, 4, generator=rng)
    radii = latent_neighbourhood_size(lambda z: z @ matrix.T, torch.randn(3, 4, generator=rng), 0.5, 200, rng)
    torch.testing.assert_close(radii, (0.5 / torch.linalg.svdvals(matrix)[0]).expand(3), rtol=1e-4, atol=1e-5)
    steeper = latent_neighbourhood_size(lambda z: 3 * z @ matrix.T, torch.randn(3, 4, generator=rng), 0.5, 200, rng)
    torch.testing.assert_close(steeper, radii / 3, rtol=1e-4, atol=1e-5)
    flat = latent_neighbourhood_size(lambda z: 0 * z, torch.zeros(1, 4))
    assert torch.isinf(flat).all()
