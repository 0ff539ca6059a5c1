"""A monitor that names the known ways in which GAN training fails, in one line, with what to change."""

import itertools
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..objective.logits import mean_logit
from ..objective.losses import AdversarialLoss
from .critic import loss_domain


@dataclass
class HealthMonitor:
    """Watches a run of any loop; ``update`` returns a line for each failure that it sees for the first time.

    Args:
        loss: the adversarial loss of the run.
        window: updates over which slow failures are judged.
        saturated: share of the slope at zero below which the generator's loss counts as saturated.
        exploding: multiple of the slope at zero above which it counts as exploding.
    """

    loss: AdversarialLoss
    window: int = 50
    saturated: float = 1e-2
    exploding: float = 1e2

    def __post_init__(self) -> None:
        if self.window < 4:
            raise ValueError(f"window is at least 4 updates, not {self.window}")
        self._centers, self._widths, self._gaps = (deque[float](maxlen=self.window) for _ in range(3))
        self._largest_gradient, self._named = 0.0, set[str]()
        zero = torch.zeros(1)
        self._slope_at_zero = max(abs(value) for value in loss_domain(self.loss, zero, zero).generator_slope) or 1.0

    def update(
        self,
        real_logits: Any,
        fake_logits: Any,
        real: Tensor | None = None,
        fake: Tensor | None = None,
        generator_gradient_norm: float | None = None,
    ) -> list[str]:
        """Takes the critic's outputs of one step; returns new warnings, each "name: cause; what to change".

        Args:
            real: the real points, to judge collapse; needs ``fake``, the generated points.
            generator_gradient_norm: norm of the generator's parameter gradient.
        """
        domain = loss_domain(self.loss, real_logits, fake_logits)
        gap = (mean_logit(real_logits).detach().mean() - mean_logit(fake_logits).detach().mean()).item()
        found = self._judged(*domain.omega, gap, domain.generator_slope)
        if real is not None and fake is not None:
            found |= self._collapse(real, fake)
        if generator_gradient_norm is not None:
            found |= self._vanishing(generator_gradient_norm)
        return self._new(found)

    def observe(self, logit_min: float, logit_max: float, logit_real: float, logit_fake: float) -> list[str]:
        """Takes the numbers that a training logs: range and means of the critic's outputs, over one or more steps.

        Returns new warnings, as ``update``; the slope of the generator's loss is judged at the mean fake output.
        """
        slopes = self.loss.slopes(torch.tensor([logit_real]), torch.tensor([logit_fake]))["generator"].item()
        return self._new(self._judged(logit_min, logit_max, logit_real - logit_fake, (slopes, slopes)))

    def observe_weights(self, numbers: Mapping[str, float]) -> list[str]:
        """Takes the numbers that terms log, such as ``penalty_saturation``; returns new warnings, as ``update``.

        A weight that a strength controls is named where its ``saturation`` is at least 1.
        """
        found = {}
        for name in (key.removesuffix("_saturation") for key in numbers if key.endswith("_saturation")):
            if numbers[f"{name}_saturation"] >= 1:
                held = f"it stands at {numbers[f'{name}_weight']:.3g}, where rho is {numbers[f'{name}_rho']:.3g}"
                advice = "the target cannot be held there: give another target, a larger reach, or a fixed weight"
                found[f"weight of {name} at its limit"] = f"{held}; {advice}"
        return self._new(found)

    def _judged(self, low: float, high: float, gap: float, slopes: tuple[float, float]) -> dict[str, str]:
        self._centers.append((low + high) / 2)
        self._widths.append(high - low)
        self._gaps.append(gap)
        return self._slopes(slopes) | self._slow()

    def _new(self, found: dict[str, str]) -> list[str]:
        new = [f"{name}: {text}" for name, text in found.items() if name not in self._named]
        self._named |= found.keys()
        return new

    def state_dict(self) -> dict[str, Any]:
        seen = {name: list(getattr(self, name)) for name in ("_centers", "_widths", "_gaps")}
        return {**seen, "largest_gradient": self._largest_gradient, "named": sorted(self._named)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("_centers", "_widths", "_gaps"):
            getattr(self, name).extend(state[name])
        self._largest_gradient, self._named = state["largest_gradient"], set(state["named"])

    def _slopes(self, slopes: tuple[float, float]) -> dict[str, str]:
        largest = max(abs(slope) for slope in slopes) / self._slope_at_zero
        advice = "lower k_SN or raise the penalty's weight, or scale the loss with a smaller alpha"
        if largest < self.saturated:
            return {"saturated slopes": f"the generator's loss is flat at every fake logit; {advice}"}
        if not largest <= self.exploding:
            return {"exploding slopes": f"the loss is {largest:.3g} times as steep as at zero; {advice}"}
        return {}

    def _slow(self) -> dict[str, str]:
        if len(self._centers) < self.window:
            return {}
        found = {}
        drift = self._centers[-1] - self._centers[0]
        path = sum(abs(b - a) for a, b in itertools.pairwise(self._centers))
        if abs(drift) > 3 * max(self._widths) and abs(drift) > 0.8 * path:
            advice = "penalize the outputs, or use a strictly convex loss instead of a linear one"
            found["drifting outputs"] = f"the critic's range moved by {drift:.3g} within the window; {advice}"
        flips = sum((a > 0) != (b > 0) for a, b in itertools.pairwise(self._gaps))
        if flips > 0.4 * self.window and max(map(abs, self._gaps)) > 0.5 * max(self._widths):
            advice = "lower both learning rates or Adam's beta1, or add a zero-centred penalty"
            found["oscillation"] = f"the sign of D(real) - D(fake) changed {flips} times; {advice}"
        return found

    def _collapse(self, real: Tensor, fake: Tensor) -> dict[str, str]:
        spread = [points.detach().flatten(1).float().std(dim=0).norm().item() for points in (real, fake)]
        if spread[1] >= 0.1 * spread[0]:
            return {}
        advice = "raise the penalty's weight, lower the generator's learning rate, or add minibatch-stddev"
        return {"collapse": f"fakes vary {spread[1] / max(spread[0], 1e-12):.2g} times as much as reals; {advice}"}

    def _vanishing(self, norm: float) -> dict[str, str]:
        self._largest_gradient = max(self._largest_gradient, norm)
        if norm >= 1e-4 * self._largest_gradient and norm > 0:
            return {}
        advice = "the critic is too sure of itself: regularize it, or use a loss that does not saturate"
        return {"vanishing generator gradient": f"{norm:.3g} after {self._largest_gradient:.3g} before; {advice}"}
