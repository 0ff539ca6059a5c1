"""The controller that holds a penalty's strength: its law, its limits, its state."""

import json
import math
from inspect import get_annotations

import pytest
import torch
from goldens import SHARED, needs_goldens
from torch import nn

from licfg_hf import (
    AdversarialLipschitzPenalty,
    BalancedConsistencyRegularization,
    GradientPenalty,
    LazyPenalty,
    StrengthControlledPenalty,
    Term,
    get_loss,
    r1_penalty,
    wgan_gp,
)
from licfg_hf.diagnostics.health import HealthMonitor
from licfg_hf.objective.strength import gain_over_chance, share

KEPT = 0.9
AVERAGING = -1 / math.log(KEPT)  # of the golden sequence


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def settled(penalty: StrengthControlledPenalty) -> StrengthControlledPenalty:
    """One whose first updates, in which it rests, are over; its means are still those of no update."""
    penalty.load_state_dict({**penalty.state_dict(), "updates": scalar(1e6)})
    return penalty


@needs_goldens
def test_the_golden_sequence():
    """It is of a measure m that falls with w and a target 1/2: the same as rho = target / (2 m), by m's mean."""
    golden = json.loads((SHARED / "spec" / "frontier_goldens.json").read_text())["2_strength"]["controller_golden"]
    assert (golden["beta"], golden["target"]) == (KEPT, 0.5)
    options = {"target": 0.4, "averaging": AVERAGING, "rate": golden["kappa"]}
    penalty = settled(StrengthControlledPenalty(r1_penalty(2 * golden["w0"]), **options))
    for row in golden["steps"]:
        # cost 1 and gain 5 m - 1 have rho = 1 / (5 m) = 0.4 / (2 m)
        numbers = penalty.after_update(scalar(1.0), scalar(5 * row["measured"] - 1))
        assert numbers["rho"].item() == pytest.approx(0.2 / row["ema"], rel=1e-9)
        assert numbers["weight"].item() == pytest.approx(row["weight"], rel=1e-9)
        assert penalty.weight.item() == numbers["weight"].item()


def test_the_weight_rests_at_first_and_where_a_value_is_not_finite():
    penalty = StrengthControlledPenalty(r1_penalty(2.0), averaging=5)
    weights = [penalty.after_update(scalar(0.0), scalar(1.0))["weight"].item() for _ in range(12)]
    assert weights[:10] == [1.0] * 10 and 1 < weights[10] < weights[11]
    before = {name: number for name, number in penalty.state_dict().items() if name != "penalty"}
    for value, gain in ((math.nan, 1.0), (1.0, math.inf), (-math.inf, 1.0)):
        numbers = penalty.after_update(scalar(value), scalar(gain))
        assert all(number.isfinite() for number in numbers.values())
    assert {name: number for name, number in penalty.state_dict().items() if name != "penalty"} == before
    assert penalty.after_update(scalar(0.0), scalar(1.0))["weight"].item() > weights[-1]


def test_the_value_is_that_of_the_weight_and_the_step_of_the_rate():
    critic, real = nn.Linear(3, 1), torch.randn(4, 3)
    penalty = settled(StrengthControlledPenalty(r1_penalty(2.0), rate=0.5))
    first = penalty(critic, real, real)
    assert first is not None and torch.equal(first, r1_penalty(2.0)(critic, real, real))
    penalty.after_update(scalar(0.0), scalar(1.0))  # far too weak: the whole step
    assert penalty.weight.item() == pytest.approx(math.exp(0.5))
    second = penalty(critic, real, real)
    assert second is not None and second.item() == pytest.approx(math.exp(0.5) * first.item())
    assert second.dtype == first.dtype


def test_the_reach_is_kept_and_a_weight_that_stays_there_is_named_once():
    penalty = settled(StrengthControlledPenalty(r1_penalty(2.0), averaging=2, rate=1.0, reach=20.0))
    monitor, said = HealthMonitor(get_loss("hinge")), []
    for update in range(30):
        numbers = penalty.after_update(scalar(0.0), scalar(1.0))
        new = monitor.observe_weights({f"penalty_{name}": number.item() for name, number in numbers.items()})
        said += [(update, line) for line in new]
    assert penalty.weight.item() == pytest.approx(20)
    ((update, line),) = said
    assert update == 1 + 10 * 2 - 1  # a step to near the limit, and ten times the averaging there; counted from 0
    assert line.startswith("weight of penalty at its limit: it stands at 20, where rho is 0;")
    for _ in range(40):  # far too strong: it goes to the other limit, and is counted anew
        numbers = penalty.after_update(scalar(1e6), scalar(1.0))
    assert penalty.weight.item() == pytest.approx(1 / 20)


def mlp(scale: float = 1.0) -> nn.Sequential:
    torch.manual_seed(0)
    first = nn.Linear(2, 16)
    nn.init.uniform_(first.weight, -0.7, 0.7)
    with torch.no_grad():
        first.weight /= scale
    return nn.Sequential(first, nn.Softplus(), nn.Linear(16, 1)).double()


def test_images_of_another_scale_are_led_to_the_weight_of_that_scale():
    """x -> 8 x, with the first layer divided by 8 and its rate by 64, is the same game at 64 times the weight."""
    found = []
    for scale in (1.0, 8.0):
        critic = mlp(scale)
        rates = [
            {"params": critic[0].weight, "lr": 0.05 / scale**2},
            {"params": [critic[0].bias, *critic[2].parameters()]},
        ]
        optimizer = torch.optim.SGD(rates, lr=0.05)
        loss, rng = get_loss("non_saturating"), torch.Generator().manual_seed(1)
        penalty = StrengthControlledPenalty(r1_penalty(0.2 * scale**2), averaging=10, rate=0.05)
        run = []
        for _ in range(200):
            real, fake = (torch.randn(16, 2, generator=rng, dtype=torch.float64) + shift for shift in (1, -1))
            numbers = critic_update(critic, optimizer, loss, penalty, scale * real, scale * fake)
            run.append([numbers["weight"].item() / scale**2, numbers["rho"].item()])
        found.append(run)
    assert abs(math.log(found[0][-1][0] / 0.1)) > 0.2  # it moved
    assert torch.tensor(found[0]).allclose(torch.tensor(found[1]), rtol=1e-9)


def critic_update(critic, optimizer, loss, penalty, real, fake):
    real_logits, fake_logits = critic(real), critic(fake)
    value = penalty(critic, real, fake)
    optimizer.zero_grad()
    (loss.discriminator(real_logits, fake_logits) + value).backward()
    optimizer.step()
    return penalty.after_update(value.detach(), gain_over_chance(loss, real_logits, fake_logits))


@pytest.mark.slow
def test_starts_ten_thousand_apart_end_at_one_weight_and_hold_the_target():
    """A critic of two Gaussians that stand still."""
    weights = []
    for start in (1e-3, 10.0):
        critic, rng = mlp().float(), torch.Generator().manual_seed(0)
        optimizer, loss = torch.optim.Adam(critic.parameters(), lr=5e-3), get_loss("non_saturating")
        penalty = StrengthControlledPenalty(r1_penalty(2 * start), averaging=20, rate=0.05)
        costs, gains = [], []
        for _ in range(600):
            real, fake = (torch.randn(64, 2, generator=rng) + shift for shift in (1, -1))
            critic_update(critic, optimizer, loss, penalty, real, fake)
            costs.append(penalty.state_dict()["cost"])
            gains.append(penalty.state_dict()["gain"])
        weights.append(penalty.weight.item())
        rho = share(torch.stack(costs[-200:]).mean(), torch.stack(gains[-200:]).mean()).item()
        assert rho == pytest.approx(0.15, rel=0.2)
    assert 1 / 4 < weights[0] / weights[1] < 4


@pytest.mark.slow
def test_a_game_that_ends_in_its_equilibrium_saturates_and_is_named():
    """Dirac-GAN (Mescheder et al., 2018): at its equilibrium nobody gains, so that no strength can be held."""
    slope, theta = (torch.tensor([[value]], requires_grad=True) for value in (0.5, 1.0))
    loss, monitor, said = get_loss("non_saturating"), HealthMonitor(get_loss("non_saturating")), []
    penalty = StrengthControlledPenalty(r1_penalty(1.0), averaging=20, rate=0.05, reach=100)

    def critic(points: torch.Tensor) -> torch.Tensor:
        return points @ slope

    optimizers = [torch.optim.SGD([player], lr=0.1) for player in (slope, theta)]
    for _ in range(900):
        numbers = critic_update(critic, optimizers[0], loss, penalty, torch.zeros(1, 1), theta.detach())
        said += monitor.observe_weights({f"penalty_{name}": number.item() for name, number in numbers.items()})
        optimizers[1].zero_grad()
        loss.generator(critic(theta)).backward()
        optimizers[1].step()
    assert len(said) == 1 and said[0].startswith("weight of penalty at its limit")


def test_a_state_comes_back_bit_for_bit():
    ours, theirs = (settled(StrengthControlledPenalty(r1_penalty(2.0), averaging=3)) for _ in range(2))
    for update in range(20):
        ours.after_update(scalar(0.1 * update), scalar(1.0))
    theirs.load_state_dict(ours.state_dict())
    for update in range(20):
        numbers = [one.after_update(scalar(1.0), scalar(0.3 * update)) for one in (ours, theirs)]
        assert numbers[0] == numbers[1]


def test_a_lazy_one_is_told_its_cost_per_update():
    once = LazyPenalty(StrengthControlledPenalty(r1_penalty(2.0)), interval=16).after_update(scalar(4.0), scalar(0.75))
    assert once["penalty_rho"].item() == 0.25
    inner = StrengthControlledPenalty(r1_penalty(2.0))
    lazy = LazyPenalty(inner, interval=16, multiply_by_interval=True, name="r1")
    numbers = lazy.after_update(scalar(16 * 0.25), scalar(0.75))
    assert numbers.keys() == {"r1_weight", "r1_rho", "r1_saturation"} and numbers["r1_rho"].item() == 0.25
    assert lazy.weighs_the_loss and not LazyPenalty(r1_penalty(1.0)).weighs_the_loss
    assert str(lazy).startswith(
        "gradient penalty (weight 1.0, points real), whose weight went from 1 to 1 for a strength"
    )


def test_it_is_like_its_penalty_in_everything_else():
    r1, consistency = r1_penalty(1.0), BalancedConsistencyRegularization(1.0)
    for penalty in (r1, consistency):
        around = LazyPenalty(StrengthControlledPenalty(penalty))
        plain = LazyPenalty(penalty)
        for name in {*get_annotations(Term), "has_generator_term", "innermost"} - {"weighs_the_loss"}:
            assert getattr(around, name) == getattr(plain, name), name


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: StrengthControlledPenalty(r1_penalty(1.0), target=0.0), "between 0 and 1"),
        (lambda: StrengthControlledPenalty(r1_penalty(1.0), target=1.0), "between 0 and 1"),
        (lambda: StrengthControlledPenalty(r1_penalty(1.0), target=math.nan), "between 0 and 1"),
        (lambda: StrengthControlledPenalty(r1_penalty(1.0), averaging=0), "averaging"),
        (lambda: StrengthControlledPenalty(r1_penalty(1.0), rate=0.0), "rate"),
        (lambda: StrengthControlledPenalty(r1_penalty(1.0), reach=9.0), "reach"),
        (lambda: StrengthControlledPenalty(r1_penalty(0.0)), "weight 0"),
        (lambda: StrengthControlledPenalty(LazyPenalty(r1_penalty(1.0), 16)), "goes around"),
        (lambda: StrengthControlledPenalty(wgan_gp()), "center 1"),
        (lambda: StrengthControlledPenalty(AdversarialLipschitzPenalty()), "lipschitz_constant 1"),
    ],
)
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_compiled_step_reads_the_weight_of_now():
    real = torch.randn(4, 3)
    critic, compiles = nn.Linear(3, 1), []

    def counting(graph, inputs):
        compiles.append(graph)
        return graph.forward

    penalty = settled(StrengthControlledPenalty(GradientPenalty(1.0, points="real"), rate=0.5))
    penalty.after_update(scalar(0.0), scalar(1.0))
    compiled = torch.compile(lambda: penalty(critic, real, real), backend=counting, fullgraph=True)
    for _ in range(3):
        plain, found = penalty(critic, real, real), compiled()
        assert plain is not None and found is not None
        torch.testing.assert_close(found, plain)
        penalty.after_update(scalar(0.0), scalar(1.0))
    assert len(compiles) == 1
    assert penalty.weight.item() == pytest.approx(math.exp(0.5 * 4))
