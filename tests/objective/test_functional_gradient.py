"""Functional gradients against closed forms: densities whose ratio is known, and the gradient of a GAN's generator."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from licfg_hf import FunctionalGradientFlow, get_loss
from licfg_hf.objective.functional_gradient import SCALINGS, StageConfig, regression_loss, scaled_gradient


def normal_log_density(points: torch.Tensor, mean: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    normal = torch.distributions.MultivariateNormal(mean, covariance)
    return normal.log_prob(points)


def divergence_of_normals(m0, s0, m1, s1) -> float:
    first, second = (torch.distributions.MultivariateNormal(m, s) for m, s in ((m0, s0), (m1, s1)))
    return float(torch.distributions.kl_divergence(first, second))


def problem(dimension: int):
    """Real and generated normal densities, float64, and the critic that is their log ratio; it is bounded above."""
    if dimension == 1:
        real = torch.zeros(1, dtype=torch.float64), torch.eye(1, dtype=torch.float64)
        fake = torch.tensor([1.2], dtype=torch.float64), torch.tensor([[1.5]], dtype=torch.float64)
    else:
        real = torch.tensor([0.5, -0.5], dtype=torch.float64), torch.tensor([[1.0, 0.3], [0.3, 0.8]]).double()
        fake = torch.zeros(2, dtype=torch.float64), torch.tensor([[1.6, -0.2], [-0.2, 1.5]]).double()
    return real, fake, lambda points: normal_log_density(points, *real) - normal_log_density(points, *fake)


def quadrature(dimension: int, count: int = 161) -> tuple[torch.Tensor, float]:
    line = torch.linspace(-9, 9, count, dtype=torch.float64)
    grid = line[:, None] if dimension == 1 else torch.cartesian_prod(line, line)
    return grid, float(line[1] - line[0]) ** dimension


def moved_divergence(flow: FunctionalGradientFlow, dimension: int) -> tuple[float, float]:
    """KL(moved fakes || real), by the change of variables x -> flow(x), and its first-order prediction.

    KL(T#p || q) = E_p [log p(x) - log |det T'(x)| - log q(T(x))], and T' comes from central differences.
    """
    real, fake, critic = problem(dimension)
    grid, cell = quadrature(dimension)
    density = normal_log_density(grid, *fake).exp() * cell
    moved, h = flow(grid), 1e-5
    shifts = h * torch.eye(dimension, dtype=torch.float64)
    jacobian = torch.stack([(flow(grid + shift) - flow(grid - shift)) / (2 * h) for shift in shifts], dim=2)
    log_moved = normal_log_density(grid, *fake) - torch.linalg.slogdet(jacobian).logabsdet
    divergence = float((density * (log_moved - normal_log_density(moved, *real))).sum())
    gradient = scaled_gradient(critic, grid)
    scale = SCALINGS[flow.scaling](critic(grid))
    slope = -float((density * scale * gradient.square().sum(dim=1)).sum())
    return divergence, slope


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("dimension", [1, 2])
def test_one_step_lowers_the_divergence_as_the_theory_says(dimension, scaling):
    """d KL(p_fake || p_real) / d eta = -E_fake [s ||grad D||^2] at eta = 0 (CFG-GAN, arXiv 1801.06309)."""
    _, _, critic = problem(dimension)
    before = divergence_of_normals(*problem(dimension)[1], *problem(dimension)[0])
    eta = 1e-4
    after, slope = moved_divergence(FunctionalGradientFlow([critic], eta, scaling), dimension)
    assert slope < -0.05
    assert after < before
    assert (after - before) / eta == pytest.approx(slope, rel=5e-3)


def test_a_step_between_normals_is_the_affine_map_of_the_closed_form():
    """With s = 1 in 1-D: D' = (x - m) / v - x, so x moves to x + eta * D'(x), and both moments follow exactly."""
    (_, _), (mean, covariance), critic = problem(1)
    eta, variance = 0.3, float(covariance)
    points = torch.randn(50, 1, dtype=torch.float64)
    moved = FunctionalGradientFlow([critic], eta)(points)
    torch.testing.assert_close(moved, points + eta * ((points - mean) / variance - points))
    slope, shift = 1 + eta * (1 / variance - 1), -eta * float(mean) / variance
    new = torch.tensor([slope * float(mean) + shift], dtype=torch.float64), slope**2 * covariance
    after = divergence_of_normals(*new, *problem(1)[0])
    assert after < divergence_of_normals(mean, covariance, *problem(1)[0])


def test_many_steps_bring_fakes_to_the_real_density():
    """With the ratio of the moment at each step, known in closed form for normal densities."""
    (real_mean, real_covariance), (mean, covariance), _ = problem(2)
    rng = torch.Generator().manual_seed(0)
    root = torch.linalg.cholesky(covariance)
    points = mean + torch.randn(20_000, 2, dtype=torch.float64, generator=rng) @ root.T
    for _ in range(60):
        moments = points.mean(dim=0), torch.cov(points.T)
        points = FunctionalGradientFlow(
            [lambda x, m=moments: normal_log_density(x, real_mean, real_covariance) - normal_log_density(x, *m)],
            0.1,
        )(points)
    torch.testing.assert_close(points.mean(dim=0), real_mean, atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(points.T), real_covariance, atol=0.03, rtol=0)


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.SiLU(), nn.Linear(16, 1)).double()

    def forward(self, images, shift=None):
        logits = self.layers(images)
        return logits if shift is None else logits * shift[:, None]


def critic() -> Critic:
    torch.manual_seed(0)
    return Critic()


@pytest.mark.parametrize("eta", [0.5, 2.0])
def test_one_step_of_regression_is_the_non_saturating_gradient(eta):
    """T = 1, s = 1 - sigmoid(D): the gradient in the weights is eta times that of mean -log sigmoid(D(G(z)))."""
    network = critic()
    generator = nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Unflatten(1, (3, 2, 2))).double()
    latents = torch.randn(7, 5, dtype=torch.float64)
    weights = list(generator.parameters())
    fake = generator(latents)
    target = FunctionalGradientFlow([network], eta, "logd")(fake)
    ours = torch.autograd.grad(regression_loss(fake, target), weights)
    gan = torch.autograd.grad(get_loss("non_saturating").generator(network(generator(latents))), weights)
    for one, other in zip(ours, gan, strict=True):
        torch.testing.assert_close(one, eta * other, rtol=1e-10, atol=1e-12)


def test_a_linear_critic_moves_samples_along_its_weight():
    weight = torch.randn(12)
    samples = torch.randn(5, 3, 2, 2)

    def linear(x):
        return x.flatten(1) @ weight

    for scaling, scale in {"kl": 1.0, "js": None, "logd": None, "jeffreys": None}.items():
        moved = FunctionalGradientFlow([linear, linear], 0.1, scaling)(samples)
        if scale is not None:
            torch.testing.assert_close(moved, samples + 0.2 * weight.view(3, 2, 2))
        direction = (moved - samples).flatten(1)
        assert torch.allclose(F.cosine_similarity(direction, weight.expand(5, -1)), torch.ones(5), atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(logit=st.floats(-8, 8))
def test_scalings_are_those_of_the_papers(logit):
    value = torch.tensor([logit], dtype=torch.float64)
    expected = {
        "kl": 1.0,
        "logd": 1 / (1 + math.exp(logit)),
        "js": 1 / (1 + math.exp(-logit)),
        "jeffreys": 1 + math.exp(logit),
    }
    assert {name: float(scale(value)) for name, scale in SCALINGS.items()} == pytest.approx(expected)


def test_chunks_noise_and_conditioning_do_not_change_with_the_chunk_size():
    network, samples, shift = critic(), torch.randn(10, 3, 2, 2).double(), torch.rand(10).double()
    flows = [
        FunctionalGradientFlow([network, network], 0.5, "js", noise=0.1, chunk_size=size) for size in (None, 1, 3, 64)
    ]
    moved = [flow(samples, rng=torch.Generator().manual_seed(3), shift=shift) for flow in flows]
    for one in moved[1:]:
        torch.testing.assert_close(one, moved[0])
    assert not torch.allclose(moved[0], flows[0](samples, rng=torch.Generator().manual_seed(4), shift=shift))


def test_it_leaves_no_graph_and_no_gradients():
    network = critic()
    samples = torch.randn(4, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        moved = FunctionalGradientFlow([network] * 3, 0.5)(samples)
    assert not moved.requires_grad and samples.grad is None
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(FunctionalGradientFlow([], 0.5)(samples), samples)


def test_half_types_keep_their_type_and_their_logits_are_upcast():
    samples = torch.randn(4, 3, 2, 2, dtype=torch.bfloat16)
    network = critic().bfloat16()
    moved = FunctionalGradientFlow([network], 0.5, "jeffreys")(samples)
    assert moved.dtype == torch.bfloat16 and torch.isfinite(moved).all()
    assert regression_loss(samples, moved).dtype == torch.float32


def test_wrong_numbers_are_refused():
    for arguments in ({"step_size": -1.0}, {"scaling": "hellinger"}, {"noise": float("nan")}, {"chunk_size": 0}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            FunctionalGradientFlow([], **arguments)
    for name in ("steps", "epochs", "learning_rate_decay", "max_decays", "initial_scale", "max_gap", "max_gap_after"):
        with pytest.raises(ValueError, match=name):
            StageConfig(**{name: -1})
    with pytest.raises(ValueError, match="differ"):
        regression_loss(torch.zeros(2, 3), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="logits"):
        scaled_gradient(lambda x: x, torch.zeros(2, 3))


def test_the_cost_of_a_stage_is_that_of_the_reference():
    """methods.md 2.2: with T = 15, U = 1, N = 640, B = 64 there are 105 + 150 transport passes of a batch, 15 updates
    and 100 generator updates."""
    cost = StageConfig(steps=15).cost(batch_size=64, discriminator_steps=1, pool=640)
    assert cost.transport_passes == (105 + 150) * 64
    assert cost.discriminator_updates == 15 * 64
    assert cost.generator_updates == 100 * 64
    assert cost.sampling_passes == 15 * 64 + 640
