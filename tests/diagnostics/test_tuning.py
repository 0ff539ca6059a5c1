"""A weight is recommended where rho tells one, on curves that are known, and none where it does not."""

import math

import pytest
import torch
from torch.nn.functional import softplus

from licfg_hf import get_loss
from licfg_hf.diagnostics import ProbedWeight, ProbeStep, tune_penalty
from licfg_hf.diagnostics.tuning import recommend

LOSS = get_loss("non_saturating")


def curve(*rhos: float, accuracy: float = 0.9) -> list[ProbedWeight]:
    """Weights 0.01, 0.1, 1, ... with these strengths; NaN diverged."""
    return [ProbedWeight(10.0 ** (k - 2), rho, accuracy) for k, rho in enumerate(rhos)]


def test_log_weight_is_interpolated_exactly_where_rho_is_linear_in_it():
    for target in (0.1, 0.15, 0.37, 0.4):
        weight, reason = recommend(curve(0.1, 0.2, 0.4, 0.5), target)
        expected = 10 ** (-2 + (target - 0.1) / 0.1) if target <= 0.2 else 10 ** (-1 + (target - 0.2) / 0.2)
        assert weight == pytest.approx(expected, rel=1e-12)
        assert f"{expected:.3g}" in reason and f"{target:g}" in reason


def test_noise_within_the_slack_is_no_fall():
    weight, _ = recommend(curve(0.03, 0.01, 0.2, 0.19), 0.105)
    assert weight == pytest.approx(10**-0.5)


@pytest.mark.parametrize(
    ("probed", "said"),
    [
        (curve(math.nan, math.nan), "all trainings diverged"),
        (curve(0.01, 0.2, 0.9, accuracy=0.52), "guesses; take more steps"),
        (curve(1.0, 1.0, 1.0), "guesses; take more steps"),
        (curve(0.1, 0.5, 0.3), "falls from 0.5 at weight 0.1 to 0.3 at 1"),
        (curve(0.2, 0.4), "0.2 at weight 0.01, and the target 0.15 is beyond it; try smaller"),
        (curve(0.01, 0.1), "0.1 at weight 0.1, and the target 0.15 is beyond it; try larger"),
        (curve(math.nan, 0.2, 0.4), "smaller weights diverged"),
        ([ProbedWeight(0.1, 0.1, 0.5), ProbedWeight(1.0, 0.2, 0.9)], "at weight 0.1 the critic still guesses"),
    ],
)
def test_nothing_is_recommended_where_the_measurement_does_not_tell(probed, said):
    weight, reason = recommend(probed, 0.15)
    assert weight is None and said in reason and "\n" not in reason


def test_what_diverged_or_guesses_beyond_the_target_does_not_matter():
    weight, _ = recommend([*curve(0.1, 0.2), ProbedWeight(1.0, 1.0, 0.5), ProbedWeight(10.0)], 0.15)
    assert weight == pytest.approx(10**-1.5)


def slope_at(weight: float) -> float:
    """The a that minimizes 2 softplus(-a / 2) + w a^2, where sigmoid(-a / 2) = 2 w a; by bisection."""
    low, high = 0.0, 100.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 / (1 + math.exp(middle / 2)) > 2 * weight * middle else (low, middle)
    return low


def settled(weight: float, interval: int = 1, updates: int = 12):
    """The critic D(x) = a x at its optimum on points at 1/2 and -1/2; at first it is 0."""
    a = slope_at(weight)
    for update in range(updates):
        at = a if update >= updates // 2 else 0.0
        logits = torch.full((4,), at / 2)
        cost = interval * weight * at**2 if update % interval == 0 else 0.0
        yield ProbeStep(cost, 2 * softplus(-torch.tensor(at / 2)), logits, -logits)


def optimum(weight: float) -> float:
    """rho of ``settled``, from its formula."""
    a = slope_at(weight)
    cost, gain = weight * a**2, 2 * (math.log(2) - softplus(-torch.tensor(a / 2, dtype=torch.float64)).item())
    return cost / (cost + gain)


def test_rho_is_that_of_the_last_half():
    found = tune_penalty(settled, [0.1, 0.01, 1.0], LOSS)
    assert [row.weight for row in found.probed] == [0.01, 0.1, 1.0]
    for row in found.probed:
        assert row.rho == pytest.approx(optimum(row.weight), rel=1e-5)
        assert row.accuracy == 1 and math.isnan(row.slope)
    assert str(found).count("\n") == 4 and str(found).endswith(found.reason)


def test_the_cost_of_a_lazy_penalty_is_spread_over_all_updates():
    often, seldom = (tune_penalty(lambda weight, k=k: settled(weight, k), [0.01, 0.1, 1.0], LOSS) for k in (1, 3))
    assert [row.rho for row in seldom.probed] == pytest.approx([row.rho for row in often.probed])


def test_chance_is_half_of_the_pairs_also_where_all_logits_are_equal():
    def constant(weight):
        for _ in range(4):
            yield ProbeStep(0.0, 2 * math.log(2), torch.zeros(3), torch.zeros(5), slope=weight)

    found = tune_penalty(constant, [1.0, 2.0], LOSS)
    assert [row.accuracy for row in found.probed] == [0.5, 0.5] and found.weight is None
    assert [row.slope for row in found.probed] == [1.0, 2.0]


def test_a_weight_that_diverges_is_left_out_and_not_trained_on():
    taken = []

    def run(weight):
        for step in settled(weight):
            taken.append(weight)
            if weight == 0.001:
                step = step._replace(loss=torch.tensor(math.nan))
            yield step
        if weight == 10.0:
            raise OverflowError

    found = tune_penalty(run, [0.001, 0.01, 0.1, 1.0, 10.0], LOSS)
    assert [row.diverged for row in found.probed] == [True, False, False, False, True]
    assert taken.count(0.001) == 1
    assert "diverged" in found.table()


@pytest.mark.parametrize(
    ("weights", "target", "said"),
    [
        ([1.0], 0.15, "two or more"),
        ([1.0, 1.0], 0.15, "two or more"),
        ([0.0, 1.0], 0.15, "above 0"),
        ([1.0, math.inf], 0.15, "above 0"),
        ([1.0, math.nan], 0.15, "above 0"),
        ([1.0, 2.0], 0.0, "between 0 and 1"),
        ([1.0, 2.0], math.nan, "between 0 and 1"),
    ],
)
def test_impossible_probes_are_refused(weights, target, said):
    with pytest.raises(ValueError, match=said):
        tune_penalty(settled, weights, LOSS, target)


@pytest.mark.parametrize("name", ["wasserstein", "least_squares"])
def test_a_loss_under_which_rho_says_nothing_is_refused(name):
    with pytest.raises(ValueError, match=r"rho|strength"):
        tune_penalty(settled, [1.0, 2.0], get_loss(name))


@pytest.mark.parametrize("updates", [0, 1])
def test_too_few_updates_are_refused(updates):
    with pytest.raises(ValueError, match=f"{updates} updates"):
        tune_penalty(lambda weight: settled(weight, updates=updates), [1.0, 2.0], LOSS)
