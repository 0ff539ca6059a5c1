"""The stochastic penalty: fixed draws, exact expectations, the laws of bias and variance, one critic in all passes."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from licfg_hf import (
    EpsCenteredGradientPenalty,
    GradientPenalty,
    MaxGradientPenalty,
    r1_penalty,
    spectral_normalize,
    wgan_gp,
)

# D(x) = b.x + x'Hx / 2 + sum of t x^3 / 6, at one point, with a centre c.
B = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
H = torch.tensor([[1.0, 0.3, 0.0], [0.3, -0.5, 0.2], [0.0, 0.2, 2.0]], dtype=torch.float64)
T = torch.tensor([0.6, -0.9, 1.5], dtype=torch.float64)
X = torch.tensor([[0.4, -0.7, 0.2]], dtype=torch.float64)
C = torch.tensor([0.1, 0.2, -0.3], dtype=torch.float64)
GRADIENT = torch.tensor([1.238, -1.7105, 0.79], dtype=torch.float64)
DRAWS = torch.tensor([[1.0, 0.0, -1.0], [0.5, -0.5, 2.0], [-1.5, 0.2, 0.3], [0.0, 1.0, 1.0]], dtype=torch.float64)


def cubic(x: torch.Tensor) -> torch.Tensor:
    return x @ B + ((x @ H) * x).sum(1) / 2 + (T * x**3).sum(1) / 6


class Centred(GradientPenalty):
    def vector_center(self, gradient):
        return C


def drawn(penalty: GradientPenalty, noise: torch.Tensor, monkeypatch) -> torch.Tensor:
    """The penalty with these noise vectors (draws, batch, 3) at the point."""
    monkeypatch.setattr(torch, "randn", lambda shape, **options: noise.view(shape))
    return penalty(cubic, X.expand(noise.shape[1], 3))


def options(step: float, draws: int = 1, **further) -> dict:
    return {"points": "real", "method": "stochastic", "step": step, "draws": draws, **further}


def test_fixed_draws_give_the_numbers_of_the_formula(monkeypatch):
    noise = DRAWS[:, None]
    for penalty, expected in (
        (GradientPenalty(1.0, **options(0.2, 4)), 3.69220368572),
        (Centred(1.0, **options(0.2, 4)), 4.53760338572),
        # The approximate R1 of video models, mean (D(x) - D(x + h n))^2, is one-sided: weight = lambda h^2.
        (GradientPenalty(0.2**2, **options(0.2, 4, antithetic=False)), 0.201728084271),
    ):
        assert drawn(penalty, noise, monkeypatch).item() == pytest.approx(expected, rel=1e-11)


def expectation(penalty: GradientPenalty, monkeypatch) -> float:
    """By Gauss-Hermite quadrature with four nodes in each coordinate, which is exact for a cubic critic."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    weights = weights / weights.sum()
    grid = [torch.tensor(node) for node in itertools.product(nodes, repeat=3)]
    chances = [math.prod(chance) for chance in itertools.product(weights, repeat=3)]
    values = [drawn(penalty, node[None, None], monkeypatch).item() for node in grid]
    return sum(chance * value for chance, value in zip(chances, values, strict=True))


@pytest.mark.parametrize(
    ("step", "one_sided", "two_sided"), [(0.1, 5.186564, 5.11736925), (0.3, 6.028902, 5.40614925)]
)
def test_the_expectation_is_the_penalty_and_the_error_follows_the_law(step, one_sided, two_sided, monkeypatch):
    squared, third = GRADIENT.square().sum(), T.square().sum()
    found = expectation(GradientPenalty(1.0, **options(step)), monkeypatch)
    law = squared + step**2 * (GRADIENT * T).sum() + 15 / 36 * step**4 * third
    assert found == pytest.approx(law.item(), abs=1e-10) == pytest.approx(two_sided, abs=1e-8)
    found = expectation(Centred(1.0, **options(step)), monkeypatch)
    residual = GRADIENT - C
    law = residual.square().sum() + step**2 * (residual * T).sum() + 15 / 36 * step**4 * third
    assert found == pytest.approx(law.item(), abs=1e-10)
    found = expectation(GradientPenalty(1.0, **options(step, antithetic=False)), monkeypatch)
    assert found == pytest.approx(one_sided, abs=1e-6)
    hessian = H + torch.diag(T * X[0])
    curved = hessian.trace() ** 2 / 4 + hessian.square().sum() / 2 + (GRADIENT * T).sum()
    assert found - squared.item() == pytest.approx((step**2 * curved).item(), rel=0.1 if step == 0.1 else 0.15)


def test_a_linear_critic_has_the_exact_penalty_in_the_mean_over_an_orthogonal_basis(monkeypatch):
    weight = torch.tensor([0.3, -0.8, 0.5, 1.1]).double()
    basis = (2 * torch.eye(4).double())[:, None]  # one-hot * sqrt(d)
    monkeypatch.setattr(torch, "randn", lambda shape, **options: basis.view(shape))
    penalty = EpsCenteredGradientPenalty(1.0, scale=0.4, points="real", method="stochastic", draws=4)
    expected = (weight - math.sqrt(0.1)).square().sum()
    assert penalty(lambda x: x @ weight, torch.zeros(1, 4).double()).item() == pytest.approx(
        expected.item(), rel=1e-12
    )


@pytest.mark.parametrize("draws", [1, 4])
def test_the_relative_variance_of_the_value_is_two_over_the_draws(draws):
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(64, generator=rng, dtype=torch.float64)
    penalty = r1_penalty(2.0, method="stochastic", draws=draws)
    values = [penalty(lambda x: x @ weight, torch.zeros(1, 64).double(), rng=rng).item() for _ in range(6000)]
    squared = weight.square().sum().item()
    assert np.mean(values) == pytest.approx(squared, rel=0.06)
    assert np.var(values) / squared**2 == pytest.approx(2 / draws, rel=0.1)


def smooth(further: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.SiLU(), further or nn.Identity(), nn.Linear(32, 1)).double()


def gradients(network: nn.Module, value: torch.Tensor) -> torch.Tensor:
    found = torch.autograd.grad(value, list(network.parameters()), allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])


def test_the_parameter_gradient_is_that_of_the_exact_penalty_in_the_mean():
    network, points = smooth(), torch.randn(8, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = gradients(network, GradientPenalty(1.0, points="real")(network, points))
    penalty = GradientPenalty(1.0, **options(0.05, 4000))
    found = gradients(network, penalty(network, points, rng=torch.Generator().manual_seed(2)))
    assert (found - exact).norm() < 0.1 * exact.norm()


@pytest.mark.parametrize("antithetic", [True, False])
def test_all_passes_see_the_same_dropout_and_the_callers_next_number_is_the_next(antithetic):
    """With draws of its own, each pass would add the dropout's variance over 2 h^2: here 500 times the penalty."""
    points = torch.randn(64, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plain = r1_penalty(1.0)(smooth(), points).item()
    penalty = r1_penalty(1.0, method="stochastic", step=1e-4, draws=64, antithetic=antithetic)
    torch.manual_seed(5)
    noisy = penalty(smooth(nn.Dropout(0.1)), points, rng=torch.Generator().manual_seed(2)).item()
    assert noisy == pytest.approx(plain, rel=0.5)
    after = torch.rand(1)
    torch.manual_seed(5)
    smooth(nn.Dropout(0.1))  # seeds with 0
    nn.functional.dropout(points.new_ones(64, 32), 0.1)
    assert torch.equal(after, torch.rand(1))  # moved by one pass, as if it were the only one


@pytest.mark.parametrize("wrap", [lambda network: network, lambda network: lambda x: network(x)])
def test_the_power_iteration_moves_as_in_one_pass(wrap):
    network, alike = spectral_normalize(smooth()), spectral_normalize(smooth())
    points = torch.randn(8, 16, dtype=torch.float64)
    r1_penalty(1.0, method="stochastic", draws=3)(wrap(network), points)
    if wrap(network) is not network:  # only a pass tells what a function calls; the others hold it
        alike(points)
    for name, value in alike.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


def test_what_is_no_mean_of_squares_is_refused():
    for make in (
        lambda: wgan_gp(method="stochastic"),
        lambda: GradientPenalty(1.0, one_sided=True, method="stochastic"),
        lambda: MaxGradientPenalty(1.0, method="stochastic"),
    ):
        with pytest.raises(ValueError, match="use another method"):
            make()
    with pytest.raises(ValueError, match="draws"):
        r1_penalty(1.0, method="stochastic", draws=0)


def test_critics_without_an_input_gradient_are_regularized():
    """A frozen trunk served without gradients, reentrant checkpoints, fused attention: only values are asked for."""

    class Served(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.head = nn.Linear(16, 32).double(), nn.Linear(32, 1).double()

        def forward(self, x):
            with torch.no_grad():
                features = self.trunk(x).tanh()
            return checkpoint(self.head, features, use_reentrant=False)

    torch.manual_seed(0)
    network, points = Served(), torch.randn(8, 16, dtype=torch.float64)
    penalty = EpsCenteredGradientPenalty(1.0, points="real", method="stochastic", draws=2)
    penalty(network, points).backward()
    assert network.head.weight.grad.abs().sum() > 0 and network.trunk.weight.grad is None


def test_half_precision_does_not_reach_the_differences():
    network, points = smooth().float(), torch.randn(8, 16)
    penalty = r1_penalty(1.0, method="stochastic", step=0.01, draws=4)
    expected = penalty(network, points, rng=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        found = penalty(network, points, rng=torch.Generator().manual_seed(0))
    assert torch.equal(found, expected)
