"""Which weight a penalty should have: short trainings at several, and the one at which it is as strong as wanted.

Strength is rho of ``objective.strength``, from means over the last half of each short training. ``recommend`` gives no
weight where the measurement does not tell one.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..objective.logits import mean_logit
from ..objective.losses import AdversarialLoss
from ..objective.strength import loss_at_chance, require_measurable, strength

TARGET = 0.15
_CHANCE = 0.55  # accuracy up to which a critic counts as guessing
_SLACK = 0.05  # by which rho may fall from one weight to the next: noise of a short training


class ProbeStep(NamedTuple):
    """What one update of the critic tells.

    Attributes:
        penalty: the weighted penalty as it is added to the loss, a number or a scalar; 0 where a lazy one is not due.
        loss: the critic's adversarial loss, without the penalty.
        real_logits: the critic's output on real points.
        fake_logits: the same on generated points.
        slope: mean ||grad D||, times the distance of a real and a generated image, where it was measured.
    """

    penalty: Tensor | float
    loss: Tensor | float
    real_logits: Any
    fake_logits: Any
    slope: float | None = None


@dataclass(frozen=True)
class ProbedWeight:
    """What a short training with one weight showed, as means over its last half; NaN where it diverged.

    Attributes:
        rho: strength of the penalty, in [0, 1].
        accuracy: share of the pairs of a real and a generated image that the critic orders right; 1/2 is chance.
        slope: see ``ProbeStep``; NaN where it was not measured.
    """

    weight: float
    rho: float = math.nan
    accuracy: float = math.nan
    slope: float = math.nan

    @property
    def diverged(self) -> bool:
        return math.isnan(self.rho)

    @property
    def at_chance(self) -> bool:
        """True if the critic guesses: it orders about half of the pairs right, or gains nothing over D = 0."""
        return self.accuracy <= _CHANCE or self.rho == 1


@dataclass(frozen=True)
class PenaltyTuning:
    """The probed weights, and what follows from them.

    Attributes:
        weight: the recommended one; None where the measurement does not tell.
        reason: why this weight, or why none, in one line.
    """

    target: float
    probed: tuple[ProbedWeight, ...]
    weight: float | None
    reason: str

    def table(self) -> str:
        """A line for each weight."""
        return "\n".join([f"{'weight':>10} {'rho':>7} {'slope':>9} {'accuracy':>9}", *map(_line, self.probed)])

    def __str__(self) -> str:
        return f"{self.table()}\n{self.reason}"


def _line(row: ProbedWeight) -> str:
    if row.diverged:
        return f"{row.weight:>10.3g} diverged"
    slope = "-" if math.isnan(row.slope) else f"{row.slope:.3g}"
    chance = "  at chance" if row.at_chance else ""
    return f"{row.weight:>10.3g} {row.rho:>7.3f} {slope:>9} {row.accuracy:>9.2f}  {'#' * round(20 * row.rho)}{chance}"


def tune_penalty(
    run: Callable[[float], Iterable[ProbeStep]],
    weights: Sequence[float],
    loss: AdversarialLoss,
    target: float = TARGET,
) -> PenaltyTuning:
    """Trains shortly with each weight and recommends the one at which the penalty has the strength ``target``.

    Args:
        run: trains with a weight, from the same start and with the same random numbers each time, and yields what each
            update of the critic tells. A training that diverges may raise an OverflowError.
        weights: of the penalty, at least two, each above 0; they are tried in rising order.
        loss: the adversarial loss.
        target: rho, in (0, 1).

    Raises:
        ValueError: weights or target are out of range; rho says nothing under this loss (see ``require_measurable``);
            or ``run`` yields fewer than two updates.
    """
    require_probe(weights, target)
    require_measurable(loss)
    probed = tuple(_probed(weight, run(weight), loss) for weight in sorted(weights))
    return PenaltyTuning(target, probed, *recommend(probed, target))


def require_probe(weights: Sequence[float], target: float) -> None:
    """Raises a ValueError where weights or target are out of range."""
    if not all(0 < weight < math.inf for weight in weights):
        raise ValueError(f"weights of a probe are finite numbers above 0, not {', '.join(map(str, weights))}")
    if len(set(weights)) < 2 or len(set(weights)) < len(weights):
        raise ValueError(f"a probe compares two or more different weights, not {', '.join(map(str, weights))}")
    if not 0 < target < 1:
        raise ValueError(f"the target of rho is between 0 and 1, not {target}")


def _probed(weight: float, steps: Iterable[ProbeStep], loss: AdversarialLoss) -> ProbedWeight:
    rows: list[tuple[float, ...]] = []
    at_chance = math.nan
    try:
        for step in steps:
            cost, value = float(step.penalty), float(step.loss)
            if not (math.isfinite(cost) and math.isfinite(value)):
                return ProbedWeight(weight)
            if not rows:
                at_chance = loss_at_chance(loss, step.real_logits, step.fake_logits).item()
            slope = math.nan if step.slope is None else step.slope
            rows.append((cost, value, _accuracy(step.real_logits, step.fake_logits), slope))
    except OverflowError:
        return ProbedWeight(weight)
    if len(rows) < 2:
        raise ValueError(f"run yielded {len(rows)} updates with weight {weight:g}: a probe takes at least two")
    late = torch.tensor(rows[len(rows) // 2 :], dtype=torch.float64)
    cost, value, accuracy, slope = late.nanmean(dim=0)
    rho = strength(cost, value, torch.tensor(at_chance, dtype=torch.float64)).item()
    return ProbedWeight(weight, rho, accuracy.item(), slope.item())


def _accuracy(real_logits: Any, fake_logits: Any) -> float:
    """The share of pairs in which the real point has the larger logit; it needs no threshold, as a loss may have."""
    real, fake = mean_logit(real_logits).detach(), mean_logit(fake_logits).detach()
    gaps = real[:, None] - fake[None]
    return ((gaps > 0).double() + (gaps == 0).double() / 2).mean().item()


def recommend(probed: Sequence[ProbedWeight], target: float) -> tuple[float | None, str]:
    """The weight at which rho is the target, by linear interpolation of log weight, and the reason; or None, and why.

    There is none where the critics guess, where rho falls as the weight rises, where the target is not reached on
    these weights, or where all diverged. Args: ``probed`` in rising order of the weights.
    """
    rows = [row for row in probed if not row.diverged]
    if not rows:
        return None, "no weight is recommended: all trainings diverged; lower the learning rates or raise the weights"
    if all(row.at_chance for row in rows):
        return None, "no weight is recommended: at every weight the critic still guesses; take more steps"
    for low, high in pairwise(rows):
        if high.rho < low.rho - _SLACK:
            return None, (
                f"no weight is recommended: rho falls from {low.rho:.3g} at weight {low.weight:.3g} to {high.rho:.3g} "
                f"at {high.weight:.3g}, so it does not measure the penalty's strength here; take more steps"
            )
    if not rows[0].rho <= target <= rows[-1].rho:
        where, end = ("smaller", rows[0]) if target < rows[0].rho else ("larger", rows[-1])
        beyond = [row for row in probed if row.diverged and (row.weight < end.weight) == (where == "smaller")]
        advice = f"{where} weights diverged: lower the learning rates" if beyond else f"try {where} weights"
        return None, (
            f"no weight is recommended: rho is {end.rho:.3g} at weight {end.weight:.3g}, and the target {target:g} is "
            f"beyond it; {advice}"
        )
    above = next(index for index, row in enumerate(rows) if row.rho >= target)
    high, low = rows[above], rows[max(above - 1, 0)]
    if low.at_chance:
        return None, (
            f"no weight is recommended: at weight {low.weight:.3g} the critic still guesses, so that rho says nothing "
            "there; take more steps"
        )
    share = (target - low.rho) / (high.rho - low.rho) if high.rho > low.rho else 0.0
    weight = math.exp((1 - share) * math.log(low.weight) + share * math.log(high.weight))
    return weight, (
        f"weight {weight:.3g} is recommended: rho is {low.rho:.3g} at {low.weight:.3g} and {high.rho:.3g} at "
        f"{high.weight:.3g}, and the target is {target:g}"
    )
