"""The loss and the penalty of a recipe, chosen by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InputError
from ..losses import AdversarialLoss, get_loss
from ..penalties import (
    AdversarialLipschitzPenalty,
    EpsCenteredGradientPenalty,
    GradientPenalty,
    MaxGradientPenalty,
    Method,
    Points,
    dragan,
)
from ..training import LazyPenalty

_TAGS = {"eps_centered": "eps-licfg"}
PenaltyName = Literal[
    "eps_centered", "zero_centered", "one_centered", "one_sided", "max", "dragan", "r1", "r2", "adversarial", "none"
]


@dataclass(frozen=True)
class ObjectiveConfig:
    """The adversarial loss and the gradient penalty of the discriminator.

    Args:
        loss: name of the adversarial loss, see licfg_hf.get_loss.
        loss_alpha: domain scaling L(alpha * u) / alpha of the loss, in [1e-25, 1e11]; 1 is the plain loss.
        penalty: ``eps_centered`` (Li-CFG), ``zero_centered``, ``one_centered`` (WGAN-GP), ``one_sided`` (LP) and
            ``max`` (MaxGP) on interpolates, ``dragan`` around real points, ``r1`` on real points, ``r2`` on fake
            points, ``adversarial`` (ALP), or ``none``.
        penalty_weight: coefficient of the mean squared distance of the input gradient from the centre, as applied
            (R1's gamma / 2).
        penalty_scale: squared norm of the centre of eps_centered, in [0, 1] in the published code.
        penalty_direction: direction of that centre: ``ones``, or the controls ``minus_ones`` and ``random``.
        penalty_points: where eps_centered, zero_centered, one_centered, one_sided and max are taken: ``interpolate``,
            ``real``, ``fake``, ``real_and_fake`` or ``perturbed``.
        penalty_method: ``exact`` (double backward), ``tangent`` (forward mode; the same gradient but for batch
            statistics) or ``finite_difference`` (for smooth critics); not used by adversarial.
        penalty_interval: discriminator updates from one penalty to the next.
        penalty_multiply_by_interval: multiply a lazy penalty by its interval, as StyleGAN2 does and DDGAN does not.

    Raises:
        InputError: a value is outside its range.
    """

    loss: str = "non_saturating"
    loss_alpha: float = 1.0
    penalty: PenaltyName = "eps_centered"
    penalty_weight: float = 0.01
    penalty_scale: float = 0.1
    penalty_direction: Literal["ones", "minus_ones", "random"] = "ones"
    penalty_points: Points = "interpolate"
    penalty_method: Method = "exact"
    penalty_interval: int = 1
    penalty_multiply_by_interval: bool = False

    def __post_init__(self) -> None:
        try:
            self.build()
        except ValueError as error:
            raise InputError(str(error)) from error

    def card(self, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """What the model card says of the penalty: a tag and the method, added to the recipe's own text."""
        tags = [*recipe.get("tags", []), f"regularizer:{_TAGS.get(self.penalty, self.penalty.replace('_', '-'))}"]
        return {"tags": tags, "method": recipe.get("methods", {}).get(self.penalty)}

    def build(self) -> tuple[AdversarialLoss, list[LazyPenalty]]:
        """The loss and the penalties, of which there are one or none."""
        weight, method = self.penalty_weight, self.penalty_method
        at = {"points": self.penalty_points, "method": method}
        eps = {"scale": self.penalty_scale, "direction": self.penalty_direction}
        makers: dict[str, Callable[[], Any]] = {
            "eps_centered": lambda: EpsCenteredGradientPenalty(weight, **at, **eps),
            "zero_centered": lambda: GradientPenalty(weight, **at),
            "one_centered": lambda: GradientPenalty(weight, center=1.0, **at),
            "one_sided": lambda: GradientPenalty(weight, center=1.0, one_sided=True, **at),
            "max": lambda: MaxGradientPenalty(weight, **at),
            "dragan": lambda: dragan(weight, method),
            "r1": lambda: GradientPenalty(weight, points="real", method=method),
            "r2": lambda: GradientPenalty(weight, points="fake", method=method),
            "adversarial": lambda: AdversarialLipschitzPenalty(weight),
        }
        loss = get_loss(self.loss, self.loss_alpha)
        if self.penalty == "none":
            return loss, []
        if self.penalty not in makers:
            raise ValueError(f"penalty is one of {', '.join(makers)}, none, not {self.penalty!r}")
        return loss, [LazyPenalty(makers[self.penalty](), self.penalty_interval, self.penalty_multiply_by_interval)]
