import math
from dataclasses import replace

import pytest
import torch
from goldens import load, needs_goldens, penalty_critic
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from licfg_hf import (
    AdversarialLipschitzPenalty,
    EpsCenteredGradientPenalty,
    GradientNormalized,
    GradientPenalty,
    MaxGradientPenalty,
    dragan,
    r1_penalty,
    r2_penalty,
    spectral_normalize,
    stable_rank_normalize,
    wgan_gp,
)
from licfg_hf.objective.penalties import interpolate, perturb

SHAPE = (3, 4, 4)
DIM = math.prod(SHAPE)


def smooth_critic(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(80, 1)).to(dtype)


def batches(rng: torch.Generator, dtype: torch.dtype = torch.float64, count: int = 4):
    return [torch.randn(count, *SHAPE, generator=rng, dtype=dtype) for _ in range(2)]


class LinearCritic(nn.Module):
    """D(x) = <w, x>: its input gradient is w everywhere."""

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ self.weight


@pytest.mark.parametrize("points", ["interpolate", "real", "fake", "real_and_fake"])
@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_linear_critic_costs_what_its_weight_says(points, reduction, rng):
    real, fake = batches(rng)
    critic = LinearCritic(torch.randn(DIM, generator=rng, dtype=torch.float64))
    norm = critic.weight.norm().item()
    for center in (0.0, 1.0, 3.0):
        penalty = GradientPenalty(2.5, center=center, points=points, reduction=reduction)
        assert penalty(critic, real, fake, rng=rng).item() == pytest.approx(2.5 * (norm - center) ** 2)


@pytest.mark.parametrize("direction", ["ones", "minus_ones", "random"])
@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0, 10), seed=st.integers(0, 2**31))
def test_eps_centred_is_zero_centred_plus_a_linear_reward(direction, scale, seed):
    """R_eps = R_0 - 2 eps E<g, u> + scale (methods 1.2), for every direction u of norm sqrt(d)."""
    rng = torch.Generator().manual_seed(seed)
    real, fake = batches(rng)
    critic, a = smooth_critic(), torch.rand(4, 1, 1, 1, generator=rng, dtype=torch.float64)
    penalty = EpsCenteredGradientPenalty(1.0, scale=scale, direction=direction)
    points = interpolate(real, fake, a).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(points).sum(), points)
    center = -torch.autograd.functional.jacobian(
        lambda g: penalty.squared_distance(g[None]).sum(), torch.zeros(DIM, dtype=torch.float64)
    )  # d/dg ||g - eps u||^2 at 0 is -2 eps u
    assert (center / 2).square().sum().item() == pytest.approx(scale, abs=1e-9)
    reward = (gradient.flatten(1) @ center).mean()
    zero_centred = GradientPenalty(1.0)(critic, real, fake, interpolation=a)
    torch.testing.assert_close(penalty(critic, real, fake, interpolation=a), zero_centred - reward + scale)


def test_eps_centred_with_ones_rewards_brightening(rng):
    real, fake = batches(rng)
    brightening = LinearCritic(torch.full((DIM,), math.sqrt(0.1 / DIM), dtype=torch.float64))
    assert EpsCenteredGradientPenalty(1.0, scale=0.1)(brightening, real, fake).item() == pytest.approx(0, abs=1e-12)
    minus = EpsCenteredGradientPenalty(1.0, scale=0.1, direction="minus_ones")
    assert minus(brightening, real, fake).item() == pytest.approx(0.4)  # ||2 eps 1||^2 = 4 scale


def test_random_direction_is_one_fixed_vector():
    first = EpsCenteredGradientPenalty(1.0, direction="random").squared_distance(torch.zeros(1, 7))
    again = EpsCenteredGradientPenalty(1.0, direction="random").squared_distance(torch.zeros(1, 7))
    gradient = torch.arange(7.0)[None]
    other = EpsCenteredGradientPenalty(1.0, direction="random", direction_seed=1)
    assert torch.equal(first, again)
    same = EpsCenteredGradientPenalty(1.0, direction="random").squared_distance(gradient)
    assert not torch.equal(other.squared_distance(gradient), same)


PENALTIES = [
    GradientPenalty(0.7),
    GradientPenalty(0.7, center=1.0),
    GradientPenalty(0.7, points="real_and_fake"),
    EpsCenteredGradientPenalty(0.7, scale=0.5),
    r1_penalty(0.3),
    r2_penalty(0.3),
    wgan_gp(),
    dragan(),
    MaxGradientPenalty(0.1),
    GradientPenalty(0.7, center=0.01, one_sided=True),
    EpsCenteredGradientPenalty(0.7, scale=0.5, direction="random", points="perturbed"),
]


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_parameter_gradient_agrees_with_finite_differences(penalty, rng):
    critic, (real, fake) = smooth_critic(), batches(rng)
    a = torch.rand(4, 1, 1, 1, generator=rng, dtype=torch.float64)
    parameter = critic[0].weight

    def value() -> torch.Tensor:
        return penalty(critic, real, fake, interpolation=a, rng=torch.Generator().manual_seed(3))

    value().backward()
    step = 1e-5 * torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
    with torch.no_grad():
        parameter += step
    above = value().item()
    with torch.no_grad():
        parameter -= 2 * step
    below = value().item()
    assert (parameter.grad * step).sum().item() == pytest.approx((above - below) / 2, rel=1e-6)


@pytest.mark.parametrize("points", ["real", "fake", "real_and_fake"])
def test_shared_forward_gives_the_same_value_and_gradient(points, rng):
    critic, (real, fake) = smooth_critic(), batches(rng)
    penalty = GradientPenalty(1.0, points=points)
    own = penalty(critic, real, fake)
    expected = torch.autograd.grad(own, list(critic.parameters())[:3])
    real.requires_grad_()
    fake.requires_grad_()
    calls = []
    critic.register_forward_hook(lambda *_: calls.append(1))
    shared = penalty(critic, real, fake, real_logits=critic(real), fake_logits=critic(fake))
    assert len(calls) == 2, "the penalty ran the critic once more"
    torch.testing.assert_close(shared, own)
    torch.testing.assert_close(torch.autograd.grad(shared, list(critic.parameters())[:3]), expected)


def test_conditioning_reaches_the_critic_once_per_point(rng):
    real, fake = batches(rng)
    label = torch.arange(4.0, dtype=torch.float64)

    def critic(images, label, constant):
        return (images.flatten(1).sum(1)) * label * constant

    value = GradientPenalty(1.0, points="real_and_fake")(critic, real, fake, label=label, constant=2.0)
    assert value.item() == pytest.approx(DIM * 4 * (label**2).mean().item())


def test_points_come_from_the_given_generator(rng):
    critic, (real, fake) = smooth_critic(), batches(rng)
    values = [GradientPenalty(1.0)(critic, real, fake, rng=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_zero_gradient_has_finite_parameter_gradients(rng):
    critic = LinearCritic(torch.zeros(DIM, dtype=torch.float64))
    GradientPenalty(1.0, center=1.0)(critic, *batches(rng)).backward()
    assert torch.isfinite(critic.weight.grad).all()


def test_norms_are_computed_in_float32_for_half_types(rng):
    critic, (real, fake) = smooth_critic(torch.bfloat16), batches(rng, torch.bfloat16)
    assert GradientPenalty(1.0)(critic, real, fake).dtype == torch.float32
    exact = GradientPenalty(1.0, points="real")(smooth_critic(torch.float32), real.float())
    assert GradientPenalty(1.0, points="real")(critic, real).item() == pytest.approx(exact.item(), rel=2e-2)


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_one_sample_works_and_none_is_refused(penalty, rng):
    real, fake = batches(rng, count=1)
    assert torch.isfinite(penalty(smooth_critic(), real, fake))
    with pytest.raises(ValueError, match="non-empty"):
        penalty(smooth_critic(), real[:0], fake[:0])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"weight": -1.0}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"weight": 1.0, "points": "nowhere"}, "points"),
        ({"weight": 1.0, "reduction": "sum"}, "reduction"),
        ({"weight": 1.0, "method": "guess"}, "method"),
    ],
)
def test_bad_arguments_are_named(arguments, word):
    with pytest.raises(ValueError, match=word):
        GradientPenalty(**arguments)


def test_bad_eps_arguments_are_named():
    for arguments, word in (({"scale": -1}, "scale"), ({"direction": "up"}, "direction"), ({"center": 1.0}, "centre")):
        with pytest.raises(ValueError, match=word):
            EpsCenteredGradientPenalty(1.0, **arguments)


def test_missing_and_mismatched_points_are_named(rng):
    real, fake = batches(rng)
    with pytest.raises(ValueError, match="fake"):
        GradientPenalty(1.0)(smooth_critic(), real)
    with pytest.raises(ValueError, match="differ"):
        GradientPenalty(1.0)(smooth_critic(), real, fake[:2])
    with pytest.raises(ValueError, match="requires_grad_"):
        GradientPenalty(1.0, points="real")(smooth_critic(), real, real_logits=smooth_critic()(real))


def test_half_weights_are_those_of_r1_and_r2():
    assert r1_penalty(0.02) == GradientPenalty(0.01, points="real")
    assert r2_penalty(0.02) == GradientPenalty(0.01, points="fake")


@needs_goldens
@pytest.mark.parametrize(
    ("name", "penalty"),
    [
        ("gradient_penalty_center1_interpolates", GradientPenalty(1.0, center=1.0)),
        ("max_gradient_penalty_interpolates", GradientPenalty(1.0, reduction="max")),
        ("r1_half_on_real", r1_penalty(1.0)),
        ("r1_on_real", GradientPenalty(1.0, points="real")),
        ("r2_on_fake", GradientPenalty(1.0, points="fake")),
    ],
)
def test_golden_values(name, penalty):
    description, tensors = load("penalties")
    critic = penalty_critic(tensors)
    value = penalty(critic, tensors["real"], tensors["fake"], interpolation=tensors["alpha"])
    value.backward()
    norm = torch.stack([p.grad.norm() for p in critic.parameters() if p.grad is not None]).norm()
    golden = description["unweighted_values"][name]
    assert value.item() == pytest.approx(golden["value"], rel=1e-5)
    assert norm.item() == pytest.approx(golden["grad_theta_norm"], rel=1e-5)


def relu_critic(dtype: torch.dtype = torch.float64) -> nn.Module:
    """A residual ReLU critic: piecewise linear, with kinks."""
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            return x + self.conv(x.relu())

    layers = [nn.Conv2d(3, 8, 3, padding=1), Block(), Block(), nn.ReLU(), nn.Flatten(), nn.Linear(128, 1)]
    return nn.Sequential(*layers).to(dtype)


def silu_critic(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 3, padding=1), nn.SiLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 1)).to(dtype)


def flat_gradient(critic: nn.Module) -> torch.Tensor:
    """All parameter gradients in one vector; none is zero (the last bias shifts every output alike)."""
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in critic.parameters()])


def parameter_gradient(penalty, critic: nn.Module, real, fake, a) -> torch.Tensor:
    critic.zero_grad()
    penalty(critic, real, fake, interpolation=a, rng=torch.Generator().manual_seed(3)).backward()
    return flat_gradient(critic)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def torch_spectral_norm(network: nn.Module) -> nn.Module:
    for layer in network:
        if hasattr(layer, "weight"):
            nn.utils.parametrizations.spectral_norm(layer)
    return network


BY_METHOD = [penalty for penalty in PENALTIES if isinstance(penalty, GradientPenalty)]


@pytest.mark.parametrize("penalty", BY_METHOD, ids=repr)
@pytest.mark.parametrize("make", [relu_critic, silu_critic, smooth_critic])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_tangent_has_the_exact_gradient_on_any_critic(penalty, make, dtype, tolerance, rng):
    critic, (real, fake) = make(dtype), batches(rng, dtype)
    a = torch.rand(4, 1, 1, 1, generator=rng, dtype=dtype)
    tangent = replace(penalty, method="tangent")
    expected = parameter_gradient(penalty, critic, real, fake, a)
    assert relative_error(parameter_gradient(tangent, critic, real, fake, a), expected) < tolerance
    value = tangent(critic, real, fake, interpolation=a, rng=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        value, penalty(critic, real, fake, interpolation=a, rng=torch.Generator().manual_seed(3)), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("penalty", BY_METHOD, ids=repr)
def test_finite_differences_agree_on_smooth_critics(penalty, rng):
    critic, (real, fake) = silu_critic(), batches(rng)
    a = torch.rand(4, 1, 1, 1, generator=rng, dtype=torch.float64)
    expected = parameter_gradient(penalty, critic, real, fake, a)
    errors = [
        relative_error(
            parameter_gradient(replace(penalty, method="finite_difference", step=step), critic, real, fake, a),
            expected,
        )
        for step in (0.1, 0.01)
    ]
    assert errors[0] < 1e-2 and errors[1] < 1e-4  # the error falls with the square of the step


def test_finite_differences_do_not_agree_on_relu_critics(rng):
    """Kinks inside the step add a term of order 1/h; only steps below every kink are right, and only in float64."""
    real, fake = batches(rng)
    a = torch.rand(4, 1, 1, 1, generator=rng, dtype=torch.float64)
    exact = parameter_gradient(GradientPenalty(1.0), relu_critic(), real, fake, a)

    def error(step: float) -> float:
        method = GradientPenalty(1.0, method="finite_difference", step=step)
        return relative_error(parameter_gradient(method, relu_critic(), real, fake, a), exact)

    assert error(0.1) > 0.1
    assert error(1e-9) < 1e-4


def test_shared_forward_serves_the_tangent_too(rng):
    critic, (real, _) = smooth_critic(), batches(rng)
    real.requires_grad_()
    calls = []
    handle = critic.register_forward_hook(lambda *_: calls.append(1))
    shared = GradientPenalty(1.0, points="real", method="tangent")(critic, real, real_logits=critic(real))
    assert len(calls) == 2  # the caller's and the tangent's
    handle.remove()
    torch.testing.assert_close(shared, GradientPenalty(1.0, points="real")(critic, real))


@pytest.mark.parametrize("method", ["exact", "tangent", "finite_difference"])
def test_methods_leave_the_critic_as_it_was(method, rng):
    critic, (real, fake) = smooth_critic(), batches(rng)
    before = [parameter.clone() for parameter in critic.parameters()]
    GradientPenalty(1.0, method=method)(critic, real, fake).backward()
    for parameter, old in zip(critic.parameters(), before, strict=True):
        assert torch.equal(parameter, old) and parameter.requires_grad


def test_finite_differences_pass_through_fused_attention_and_reentrant_checkpointing(rng):
    from torch.utils.checkpoint import checkpoint

    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
            self.last = nn.Linear(16, 1)

        def forward(self, images):
            tokens = images.flatten(2)
            mixed = checkpoint(lambda t: self.attention(t, t, t, need_weights=False)[0], tokens, use_reentrant=True)
            return self.last(mixed.mean(1))

    torch.manual_seed(0)
    critic, (real, fake) = Critic(), batches(rng, torch.float32)
    GradientPenalty(1.0, method="finite_difference")(critic, real, fake, rng=rng).backward()
    assert critic.attention.in_proj_weight.grad.abs().sum() > 0


@pytest.mark.parametrize("method", ["exact", "finite_difference"])
def test_a_reentrant_checkpoint_is_differentiated_with_the_noise_of_the_values(method, rng):
    """A linear critic with dropout has equal differences and derivatives, if all its passes draw one mask."""
    from torch.utils.checkpoint import checkpoint

    layer, (real, _) = nn.Linear(DIM, 1).double(), batches(rng)

    class Critic(nn.Module):
        def forward(self, images):
            reentrant = method == "finite_difference"
            return checkpoint(layer, nn.functional.dropout(images.flatten(1), 0.5), use_reentrant=reentrant)

    torch.manual_seed(5)
    found, after = r1_penalty(1.0, method=method)(Critic(), real), torch.rand(1)
    torch.manual_seed(5)
    masks = nn.functional.dropout(torch.ones_like(real.flatten(1)), 0.5)
    assert found.item() == pytest.approx(0.5 * (masks * layer.weight).square().sum(1).mean().item())
    assert torch.equal(after, torch.rand(1))  # as if there had been one pass


@pytest.mark.parametrize("method", ["tangent", "finite_difference"])
def test_zero_gradient_is_finite_by_every_method(method, rng):
    critic = LinearCritic(torch.zeros(DIM, dtype=torch.float64))
    GradientPenalty(1.0, center=1.0, method=method)(critic, *batches(rng)).backward()
    assert torch.isfinite(critic.weight.grad).all()


def test_one_sided_costs_only_above_the_centre(rng):
    real, fake = batches(rng)
    critic = LinearCritic(torch.full((DIM,), 2 / math.sqrt(DIM), dtype=torch.float64))  # norm 2
    assert GradientPenalty(1.0, center=3.0, one_sided=True)(critic, real, fake).item() == 0
    assert GradientPenalty(1.0, center=0.5, one_sided=True)(critic, real, fake).item() == pytest.approx(2.25)


def test_named_penalties_are_the_published_ones():
    assert wgan_gp() == GradientPenalty(10.0, center=1.0)
    assert dragan() == GradientPenalty(10.0, center=1.0, points="perturbed")
    assert MaxGradientPenalty(0.1).reduction == "max"


def test_dragan_stays_near_the_data(rng):
    real = torch.randn(64, *SHAPE, generator=rng)
    moved = perturb(real, rng=rng) - real
    assert moved.min() >= 0 and moved.max() <= 0.5 * real.std()
    assert moved.flatten(1).max(dim=1).values.std() > 0.05  # one share per sample


def test_adversarial_lipschitz_penalty_sees_only_what_is_steeper_than_k(rng):
    real, fake = (
        0.02 * batch for batch in batches(rng)
    )  # inside, so that clipping to [-1, 1] bends no direction much
    weight = torch.zeros(DIM, dtype=torch.float64)
    weight[0] = 3.0
    assert AdversarialLipschitzPenalty(1.0, lipschitz_constant=3.1)(LinearCritic(weight), real, fake, rng=rng) == 0
    found = AdversarialLipschitzPenalty(1.0, lipschitz_constant=1.0)(LinearCritic(weight), real, fake, rng=rng)
    assert found.item() == pytest.approx(4.0, rel=1e-6)  # the adversarial direction is that of the weight: (3 - 1)^2
    with pytest.raises(ValueError, match="non-empty"):
        AdversarialLipschitzPenalty()(LinearCritic(weight), real[:0], fake)
    with pytest.raises(ValueError, match="weight"):
        AdversarialLipschitzPenalty(-1.0)


def test_adversarial_lipschitz_penalty_has_the_analytic_gradient(rng):
    """On a linear critic w = (3, 0, ...) the term is (|w_0| - 1)^2 along the adversarial direction."""
    real, fake = (0.02 * batch for batch in batches(rng))
    weight = torch.zeros(DIM, dtype=torch.float64)
    weight[0] = 3.0
    critic = LinearCritic(weight)
    AdversarialLipschitzPenalty(0.5, lipschitz_constant=1.0)(critic, real, fake, rng=rng).backward()
    assert critic.weight.grad[0].item() == pytest.approx(0.5 * 2 * (3 - 1), rel=1e-6)


def test_weight_scale_and_direction_can_be_given_by_position():
    penalty = EpsCenteredGradientPenalty(0.01, 0.5, "minus_ones")
    assert (penalty.weight, penalty.scale, penalty.direction, penalty.center) == (0.01, 0.5, "minus_ones", 0.0)


@pytest.mark.parametrize("normalize", [spectral_normalize, stable_rank_normalize, torch_spectral_norm])
@pytest.mark.parametrize("method", ["tangent", "finite_difference"])
def test_methods_agree_on_normalized_critics_in_train_mode(normalize, method, rng):
    """The passes of one penalty see one critic: the power iteration stands still between them."""
    critic, (real, fake) = normalize(silu_critic()).train(), batches(rng)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
    a = torch.rand(4, 1, 1, 1, generator=rng, dtype=torch.float64)
    found = parameter_gradient(GradientPenalty(1.0, method=method, step=0.01), critic, real, fake, a)
    for module in critic.modules():
        if isinstance(module, nn.utils.parametrize.ParametrizationList):
            assert module[0].training
            module.eval()
    expected = parameter_gradient(GradientPenalty(1.0), critic, real, fake, a)
    assert relative_error(found, expected) < 1e-5


def test_finite_differences_are_full_precision_under_accelerate_bf16(rng):
    from accelerate import Accelerator

    critic, (real, fake) = silu_critic(torch.float32), batches(rng, torch.float32)
    with torch.no_grad():
        critic[-1].bias.fill_(5.0)
    a = torch.rand(4, 1, 1, 1, generator=rng)
    penalty = GradientPenalty(1.0, method="finite_difference")
    expected = parameter_gradient(penalty, critic, real, fake, a)
    prepared = Accelerator(cpu=True, mixed_precision="bf16").prepare(critic)
    wrapped = prepared.forward
    assert relative_error(parameter_gradient(penalty, prepared, real, fake, a), expected) < 1e-5
    assert prepared.forward == wrapped


def test_what_cannot_work_is_said(rng):
    critic, (real, fake) = smooth_critic(), batches(rng)
    logits = critic(real)
    real.requires_grad_()
    with pytest.raises(ValueError, match="no graph"):
        GradientPenalty(1.0, points="real")(critic, real, real_logits=logits)
    with pytest.raises(ValueError, match="another method"):
        GradientPenalty(1.0, method="tangent")(GradientNormalized(critic), real, fake)
    with_batch_norm = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(DIM).double(), nn.Linear(DIM, 1).double())
    with pytest.warns(UserWarning, match="BatchNorm"):
        GradientPenalty(1.0)(with_batch_norm, real, fake)

    class FSDPModule(nn.Sequential):
        """Stands for torch's class of that name, which only exists within a process group."""

    with pytest.raises(ValueError, match="sharded"):
        GradientPenalty(1.0)(FSDPModule(critic), real, fake)
    assert torch.isfinite(GradientPenalty(1.0, method="finite_difference")(FSDPModule(critic), real, fake))


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 5),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    penalty=st.sampled_from(PENALTIES),
    method=st.sampled_from(["exact", "tangent", "finite_difference"]),
)
def test_any_shape_and_type(count, shape, dtype, penalty, method):
    rng = torch.Generator().manual_seed(count)
    real, fake = (torch.randn(count, *shape, generator=rng).to(dtype) for _ in range(2))
    critic = LinearCritic(torch.randn(math.prod(shape), generator=rng).to(dtype))
    value = replace(penalty, method=method)(critic, real, fake, rng=rng)
    assert value.ndim == 0 and torch.isfinite(value) and value >= 0
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["exact", "tangent", "finite_difference"])
def test_compiled_step_equals_eager(method, rng):
    critic, (real, fake) = (
        relu_critic(torch.float32) if method != "finite_difference" else silu_critic(torch.float32),
        batches(rng, torch.float32),
    )
    a = torch.rand(4, 1, 1, 1, generator=rng)
    penalty = EpsCenteredGradientPenalty(0.7, method=method)
    expected = parameter_gradient(penalty, critic, real, fake, a)
    critic.zero_grad()
    compiled = torch.compile(lambda real, fake, a: penalty(critic, real, fake, interpolation=a), fullgraph=True)
    compiled(real, fake, a).backward()
    assert relative_error(flat_gradient(critic), expected) < 1e-4
