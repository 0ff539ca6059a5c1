import math
from types import SimpleNamespace

import pytest
import torch
from goldens import load, needs_goldens, penalty_critic
from hypothesis import given, settings
from hypothesis import strategies as st

from licfg_hf import AdversarialLoss, get_loss
from licfg_hf.objective.losses import _LOSSES, LOSS_NAMES

sigmoid, cos, exp = torch.sigmoid, torch.cos, torch.exp

# The published formulas (methods 3.3, 6.1), real r high and fake f: discriminator, generator.
FORMULAS = {
    "non_saturating": (lambda r, f: -sigmoid(r).log() - (1 - sigmoid(f)).log(), lambda f: -sigmoid(f).log()),
    "minimax": (lambda r, f: -sigmoid(r).log() - (1 - sigmoid(f)).log(), lambda f: (1 - sigmoid(f)).log()),
    "hinge": (lambda r, f: (1 - r).clamp(min=0) + (1 + f).clamp(min=0), lambda f: -f),
    "wasserstein": (lambda r, f: f - r, lambda f: -f),
    "least_squares": (lambda r, f: (r - 1) ** 2 + f**2, lambda f: (f - 1) ** 2),
    "least_squares_zero_centered": (lambda r, f: (r - 1) ** 2 + (f + 1) ** 2, lambda f: (f - 1) ** 2),
    "cosine": (lambda r, f: -cos(r - 1) - cos(f + 1), lambda f: -cos(f - 1)),
    "exponential": (lambda r, f: exp(-r) + exp(f), lambda f: exp(-f)),
    "lgan_linear": (lambda r, f: f - r, lambda f: -f),
    "lgan_log_sigmoid": (lambda r, f: -sigmoid(r).log() - sigmoid(-f).log(), lambda f: -f),
    "lgan_sqrt": (lambda r, f: (r**2 + 1).sqrt() - r + (f**2 + 1).sqrt() + f, lambda f: -f),
    "lgan_exp": (lambda r, f: exp(-r) + exp(f), lambda f: -f),
    "lgan_square": (lambda r, f: (r - 1) ** 2 + (f + 1) ** 2, lambda f: (f - 1) ** 2),
}


def logits(rng: torch.Generator, count: int = 8, scale: float = 2.0) -> list[torch.Tensor]:
    return [scale * torch.randn(count, generator=rng, dtype=torch.float64) for _ in range(2)]


@pytest.mark.parametrize("name", FORMULAS)
def test_published_formulas(name, rng):
    real, fake = logits(rng)
    discriminator, generator = FORMULAS[name]
    torch.testing.assert_close(get_loss(name).discriminator(real, fake), discriminator(real, fake).mean())
    torch.testing.assert_close(get_loss(name).generator(fake), generator(fake).mean())


def test_relativistic_pairs_the_batches(rng):
    real, fake = logits(rng)
    loss = get_loss("relativistic")
    torch.testing.assert_close(loss.discriminator(real, fake), -sigmoid(real - fake).log().mean())
    torch.testing.assert_close(loss.generator(fake, real), -sigmoid(fake - real).log().mean())
    with pytest.raises(ValueError, match="8 and 3 differ"):
        loss.discriminator(real, fake[:3])
    with pytest.raises(ValueError, match="real_logits"):
        loss.generator(fake)


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_real_is_scored_high(name):
    """At zero the discriminator gains by raising real and lowering fake logits, the generator by raising fakes."""
    real, fake = (torch.zeros(4, requires_grad=True) for _ in range(2))
    loss = get_loss(name)
    loss.discriminator(real, fake).backward()
    assert (real.grad < 0).all() and (fake.grad >= 0).all()
    assert (fake.grad > 0).all() or name == "least_squares"  # centred on 1/2: its fake term is flat at 0
    fake.grad = None
    loss.generator(fake, real).backward()
    assert (fake.grad < 0).all()


def slope(loss: AdversarialLoss, real: torch.Tensor, fake: torch.Tensor) -> tuple[torch.Tensor, ...]:
    real, fake = real.clone().requires_grad_(), fake.clone().requires_grad_()
    found = torch.autograd.grad(loss.discriminator(real, fake), (real, fake))
    return (*found, *torch.autograd.grad(loss.generator(fake, real), fake))


@pytest.mark.parametrize("name", LOSS_NAMES)
@pytest.mark.parametrize("alpha", [1e-25, 1e-11, 1e-3, 1.0, 1e3, 1e7, 1e11])
def test_domain_scaling_in_float32_has_the_slope_of_the_formula(name, alpha, rng):
    """d/du L(alpha u) / alpha = L'(alpha u), computed from the unscaled loss at alpha u in float64."""
    real, fake = (values.float() for values in logits(rng, scale=2.0 if alpha <= 1 else 2.0 / alpha))
    if name == "cosine" and alpha > 1e3:
        pytest.skip("the cosine's slope is right only as far as alpha * u is represented")
    expected = slope(get_loss(name), *((alpha * values.double()) for values in (real, fake)))
    found = slope(get_loss(name, alpha=alpha), real, fake)
    for one, other in zip(found, expected, strict=True):
        # where the cosine's slope crosses zero, only its absolute error is small
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-7 if name == "cosine" else 1e-9)
    value = get_loss(name, alpha=alpha).discriminator(real, fake)
    assert torch.isfinite(value)
    exact = get_loss(name).discriminator(alpha * real.double(), alpha * fake.double()) / alpha
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in LOSS_NAMES if name not in ("cosine", "exponential", "lgan_exp")])
def test_large_alpha_at_ordinary_logits_stays_finite(name, rng):
    real, fake = (values.float() for values in logits(rng))
    loss = get_loss(name, alpha=1e11)
    assert torch.isfinite(loss.discriminator(real, fake))
    expected = slope(get_loss(name), 1e11 * real.double(), 1e11 * fake.double())
    for one, other in zip(slope(loss, real, fake), expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-9)


def test_the_exponential_says_where_it_overflows():
    for name in ("exponential", "lgan_exp"):
        with pytest.raises(OverflowError, match="alpha"):
            get_loss(name, alpha=100.0).discriminator(torch.zeros(2), torch.ones(2))
    with pytest.raises(OverflowError, match="not exceed 88"):
        get_loss("exponential").generator(torch.tensor([-100.0]))
    with pytest.raises(OverflowError):  # each is finite, their sum is not
        get_loss("exponential").generator(torch.full((8,), -88.5))
    assert torch.isnan(get_loss("exponential").generator(torch.tensor([float("nan")])))


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_slope_tends_to_that_at_zero_and_the_excess_to_a_line(name, rng):
    """Qin et al.: alpha -> 0 makes every loss linear with slope L'(0)."""
    real, fake = (values.float() for values in logits(rng))
    flat = slope(get_loss(name), torch.zeros_like(real), torch.zeros_like(fake))
    loss = get_loss(name, alpha=1e-25)
    for one, other in zip(slope(loss, real, fake), flat, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)
    excess = loss.excess_over_zero(real, fake)
    torch.testing.assert_close(excess["discriminator"].float(), (flat[0] * real + flat[1] * fake).sum())
    near = get_loss(name, alpha=1e-5).excess_over_zero(real, fake)
    torch.testing.assert_close(near["generator"], excess["generator"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_half_precision_and_autocast_compute_in_float32(name):
    values = torch.linspace(-2, 2, 8)
    loss = get_loss(name, alpha=1e-25)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss.discriminator(values.bfloat16(), -values.bfloat16())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss.discriminator(values.bfloat16().float(), -values.bfloat16().float()))
    assert get_loss(name).discriminator(values.double(), values.double()).dtype == torch.float64


def test_lipschitz_gan_conditions():
    met = {name: get_loss(name).lipschitz_gan_conditions() for name in _LOSSES}
    for name in ("lgan_linear", "lgan_log_sigmoid", "lgan_sqrt", "lgan_exp", "non_saturating", "wasserstein"):
        assert met[name].met, name
    strict = {name for name, conditions in met.items() if conditions.met and conditions.strictly_convex}
    assert strict == {"lgan_log_sigmoid", "lgan_sqrt", "lgan_exp", "non_saturating", "minimax", "exponential"}
    assert not met["lgan_square"].increasing and met["lgan_square"].strictly_convex
    assert not met["hinge"].increasing and met["hinge"].convex
    assert not met["least_squares"].mirrored and not met["cosine"].convex
    own = AdversarialLoss(phi=lambda u: u + u.exp())
    assert own.lipschitz_gan_conditions().met


def test_takes_a_users_own_functions():
    loss = AdversarialLoss(phi=torch.exp, alpha=0.5, name="own")
    real, fake = torch.tensor([1.0]), torch.tensor([2.0])
    assert loss.discriminator(real, fake).item() == pytest.approx((math.exp(-0.5) + math.exp(1)) / 0.5)
    assert loss.generator(fake).item() == pytest.approx(math.exp(-1) / 0.5)
    assert repr(loss) == "AdversarialLoss(own, alpha=0.5)"


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 9), column=st.booleans(), wrapped=st.booleans(), name=st.sampled_from(LOSS_NAMES))
def test_any_form_of_logits(count, column, wrapped, name):
    rng = torch.Generator().manual_seed(count)
    real, fake = (torch.randn(count, generator=rng) for _ in range(2))
    expected = get_loss(name).discriminator(real, fake)

    def form(values):
        values = values[:, None] if column else values
        return SimpleNamespace(logits=values) if wrapped else values

    torch.testing.assert_close(get_loss(name).discriminator(form(real), form(fake)), expected)


@pytest.mark.parametrize("shape", [(0,), (4, 2), (), (2, 3, 2)])
def test_refuses_what_are_no_logits(shape):
    with pytest.raises(ValueError):
        get_loss("non_saturating").generator(torch.zeros(shape))


def test_unknown_names_and_alphas_are_named():
    with pytest.raises(ValueError, match=r"non_saturating.*relativistic"):
        get_loss("no_such_loss")
    for alpha in (0.0, 1e-26, 1e12, float("nan")):
        with pytest.raises(ValueError, match="alpha"):
            get_loss("hinge", alpha=alpha)


@needs_goldens
@pytest.mark.parametrize(
    ("golden", "name", "factor"),
    [("non_saturating", "non_saturating", 1), ("least_squares_half", "least_squares", 2), ("hinge", "hinge", 1)],
)
def test_golden_values(golden, name, factor):
    description, tensors = load("penalties")
    critic, values = penalty_critic(tensors), description["unweighted_values"]
    real, fake = critic(tensors["real"]), critic(tensors["fake"])
    loss = get_loss(name)
    for value, key in ((loss.discriminator(real, fake), f"d_{golden}"), (loss.generator(fake), f"g_{golden}")):
        critic.zero_grad()
        value.backward(retain_graph=True)
        norm = torch.stack([parameter.grad.norm() for parameter in critic.parameters()]).norm()
        assert value.item() == pytest.approx(factor * values[key]["value"], rel=1e-5)
        assert norm.item() == pytest.approx(factor * values[key]["grad_theta_norm"], rel=1e-5)


@needs_goldens
def test_golden_wasserstein():
    description, tensors = load("penalties")
    critic = penalty_critic(tensors)
    value = get_loss("wasserstein").discriminator(critic(tensors["real"]), critic(tensors["fake"]))
    assert value.item() == pytest.approx(description["unweighted_values"]["d_wasserstein"]["value"], rel=1e-5)
