"""The strength of a penalty: what it is, and where it says something."""

import json
import math

import pytest
import torch
from goldens import SHARED, needs_goldens

from licfg_hf import AdversarialLoss, GradientPenalty, get_loss
from licfg_hf.objective.losses import LOSS_NAMES
from licfg_hf.objective.strength import gain_over_chance, loss_at_chance, require_measurable, strength

AT_CHANCE = {"non_saturating": 2 * math.log(2), "hinge": 2.0, "relativistic": math.log(2), "exponential": 2.0}


@pytest.mark.parametrize("name", AT_CHANCE)
def test_loss_at_chance(name):
    logits = torch.randn(4, 1, dtype=torch.float64)
    assert loss_at_chance(get_loss(name), logits, logits).item() == pytest.approx(AT_CHANCE[name], rel=1e-12)


def test_loss_at_chance_of_several_heads_of_several_positions():
    heads = [torch.randn(4, 1, 3, 3), torch.randn(4, 1)]
    for loss, times in ((get_loss("hinge"), 1), (get_loss("hinge", heads="sum"), 2)):
        found = loss_at_chance(loss, {"logits": heads, "features": [torch.ones(4, 7)]}, heads)
        assert found.item() == 2 * times
    assert loss_at_chance(get_loss("hinge"), torch.randn(4, 1, 5, 5), torch.randn(4)).item() == 2


def test_loss_at_chance_of_a_loss_from_outside():
    class Own(AdversarialLoss):
        def discriminator(self, real_logits, fake_logits):
            return (real_logits - 3).square().mean() + (fake_logits + 3).square().mean()

    assert loss_at_chance(Own(torch.square), torch.randn(4, 1), torch.randn(4, 1)).item() == 18


@pytest.mark.parametrize("alpha", (1.0, 1e-10))
def test_the_gain_is_not_drowned_by_the_loss_at_chance(alpha):
    real, fake = torch.tensor([1.0, 2.0]), torch.tensor([-1.0, 0.0])
    loss = get_loss("non_saturating", alpha=alpha)
    found = gain_over_chance(loss, [real, real], {"logits": [fake, fake], "features": [torch.ones(2, 3)]})
    slope = (0.5 * (real.mean() - fake.mean())).item()  # the loss is linear in the limit
    exact = 2 * math.log(2) - get_loss("non_saturating").discriminator(real, fake).item()
    assert found.item() == pytest.approx(exact if alpha == 1 else slope, rel=1e-4)


def test_strength_is_the_share_of_the_penalty():
    number = torch.tensor
    assert strength(number(0.3), number(1.4), number(2.0)).item() == pytest.approx(1 / 3)
    assert strength(number(0.3), number(2.5), number(2.0)).item() == 1  # worse than chance
    assert strength(number(0.0), number(2.0), number(2.0)).item() == 0
    assert strength(number(-0.3), number(1.0), number(2.0)).item() == 0
    assert strength(number(math.nan), number(1.0), number(2.0)).isnan()


def linear_critic(weight: float, loss: AdversarialLoss, points: torch.Tensor) -> tuple[float, float]:
    """rho and the slope of the best critic a x under a zero-centred penalty, in float64."""
    slope = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    penalty = GradientPenalty(weight, points="real")
    optimizer = torch.optim.LBFGS(
        [slope], max_iter=200, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def critic(x: torch.Tensor) -> torch.Tensor:
        return x * slope

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        total = penalty(critic, points) + loss.discriminator(critic(points), critic(-points))
        total.backward()
        return total

    optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    value, adversarial = penalty(critic, points).detach(), loss.discriminator(critic(points), critic(-points)).detach()
    return strength(value, adversarial, loss_at_chance(loss, points, points)).item(), slope.item()


def test_strength_grows_with_the_weight_and_not_with_the_scale():
    points = 1 + torch.randn(64, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss = get_loss("non_saturating")
    found = [linear_critic(weight, loss, points)[0] for weight in (0.01, 0.1, 1.0, 10.0, 1000.0)]
    assert found == sorted(found)
    assert found[0] < 0.1
    assert found[-1] == pytest.approx(1 / 3, abs=1e-3)  # the linear regime
    rho, slope = linear_critic(64 * 0.1, loss, 8 * points)
    assert rho == pytest.approx(found[1], rel=1e-6)
    assert slope == pytest.approx(linear_critic(0.1, loss, points)[1] / 8, rel=1e-5)


def golden(name: str):
    return json.loads((SHARED / "spec" / "frontier_goldens.json").read_text())["2_strength"][name]


@needs_goldens
def test_strength_of_the_golden_linear_critic():
    for row in golden("ratio_linear_critic"):  # it stores the odds w P / (L0 - L)
        cost, loss = (torch.tensor(row[name], dtype=torch.float64) for name in ("slope", "L"))
        rho = strength(row["w"] * cost.square(), loss, torch.tensor(2 * math.log(2), dtype=torch.float64))
        assert rho.item() == pytest.approx(row["rho"] / (1 + row["rho"]), rel=1e-6)


LINEAR = {"wasserstein", "lgan_linear"}


@pytest.mark.parametrize("name", LOSS_NAMES)
@pytest.mark.parametrize("alpha", [1e-8, 1.0, 100.0])
def test_losses_under_which_a_strength_says_nothing(name, alpha):
    loss = get_loss(name, alpha=alpha, weight=0.5)
    if name in LINEAR:
        with pytest.raises(ValueError, match="1/3 at every weight"):
            require_measurable(loss)
    elif name == "least_squares":
        with pytest.raises(ValueError, match="least_squares_zero_centered"):
            require_measurable(loss)
    else:
        require_measurable(loss)
