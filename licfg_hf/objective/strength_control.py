"""A penalty that is given a strength to hold in place of a weight."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .strength import precise, share
from .term import AroundTerm, LazyPenalty, in_words

_PATIENCE = 10  # times the averaging, after which a weight near its limit counts as saturated


@dataclass(frozen=True)
class StrengthControlledPenalty(AroundTerm):
    """A penalty whose weight follows the strength rho that is measured, see ``objective.strength``, until it is held.

    After each update, from running means of the weighted penalty w P and of the critic's gain L0 - L,

        log w <- log w + rate * clip(log(target / rho), -1, 1)

    The weight stays between w0 / reach and w0 * reach, w0 being the weight that the penalty was made with. It rests
    for the first ``2 * averaging`` updates, and where a value is not finite. Updates are those in which the penalty is
    evaluated. A ``LazyPenalty`` goes around this one: its interval is no part of w, and spreads w P over all updates.

    A loop that is not the ``Trainer`` calls ``after_update``, see the guide. The state lies on the device, where the
    host does not wait for it; a compiled step reads it as a tensor.

    Args:
        penalty: a ``Term`` whose value is proportional to its ``weight``, or a function, whose weight counts as 1.
        target: rho to hold, between 0 and 1. The default is a starting point; which strength is best is not known.
        averaging: updates over which w P and the gain are averaged.
        rate: step of log w per update where rho is off by a factor e or more.
        reach: largest factor between the weight and w0; with 1e4, starts 1e4 apart reach each other.

    Raises:
        ValueError: a number is outside its range; the penalty's weight is 0; it costs least at slopes other than 0, so
            that rho does not grow with w; or the penalty is lazy by itself.
    """

    penalty: Callable[..., Tensor | None]
    target: float = 0.15
    averaging: int = 100
    rate: float = 0.01
    reach: float = 1e4
    _state: dict[str, Tensor] = field(init=False, repr=False, compare=False)

    weighs_the_loss = True

    def __post_init__(self) -> None:
        if isinstance(self.penalty, LazyPenalty):
            raise ValueError("a lazy penalty goes around a strength: LazyPenalty(StrengthControlledPenalty(...), 16)")
        if not 0 < self.target < 1:
            raise ValueError(f"target is a strength rho between 0 and 1, not {self.target}")
        if self.averaging < 1:
            raise ValueError(f"averaging is at least 1 update, not {self.averaging}")
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate is a number in (0, 1], not {self.rate}")
        if not (math.isfinite(self.reach) and self.reach >= 10):
            raise ValueError(f"reach is a finite number >= 10, not {self.reach}")
        if not self.start > 0:
            raise ValueError("a penalty of weight 0 has no strength: give it a weight to start from")
        for name in ("center", "lipschitz_constant"):
            if self._asked(name, 0.0) != 0:
                raise ValueError(
                    f"a penalty with {name} {self._asked(name, 0.0):g} costs least at a slope that is not 0, so that "
                    "its strength does not grow with its weight: give it a weight, without a target"
                )
        names = ("log_factor", "cost", "gain", "updates", "at_limit")
        object.__setattr__(self, "_state", {name: torch.zeros((), dtype=torch.float64) for name in names})

    def __str__(self) -> str:
        weights = f"{self.start:.3g} to {self.weight.item():.3g}"
        return f"{in_words(self.penalty)}, whose weight went from {weights} for a strength rho of {self.target:g}"

    @property
    def name(self) -> str:
        return self._asked("name", "penalty")

    @property
    def start(self) -> float:
        """w0, the weight that the penalty was made with."""
        return float(self._asked("weight", 1.0))

    @property
    def weight(self) -> Tensor:
        """The weight as it is now, a scalar on the device."""
        return self.start * self._state["log_factor"].exp()

    def __call__(self, discriminator: Any, real: Tensor, fake: Tensor, **rest: Any) -> Tensor | None:
        """The weighted penalty, arguments as in ``Term``."""
        value = self.penalty(discriminator, real, fake, **rest)
        if value is None:
            return None
        if not torch.compiler.is_compiling():
            self._move_to(value.device)
        return value * self._state["log_factor"].exp().to(value.dtype)

    @torch.no_grad()
    def after_update(self, value: Tensor, gain: Tensor) -> Mapping[str, Tensor]:
        """Moves the weight, after an update, by scalars that are the same on every process.

        Args:
            value: what the call returned, as mean over micro-batches and processes.
            gain: ``gain_over_chance`` of the same outputs of the critic, likewise.

        Returns:
            ``weight`` and ``rho`` after this update, and ``saturation``, at least 1 where the weight has been within a
            factor e of its limit in ``10 * averaging`` more updates than not.
        """
        self._move_to(value.device)
        state, limit = self._state, math.log(self.reach)
        finite = value.isfinite() & gain.isfinite()
        kept = math.exp(-1 / self.averaging)
        cost, gained = (
            torch.where(finite, kept * mean + (1 - kept) * new, mean)
            for mean, new in ((state["cost"], value), (state["gain"], gain))
        )
        rho, updates = share(cost, gained), state["updates"] + finite
        step = self.rate * (self.target / rho).log().clamp(-1, 1)
        moves = finite & (updates > 2 * self.averaging)
        log_factor = torch.where(moves, state["log_factor"] + step, state["log_factor"]).clamp(-limit, limit)
        # Near it, not only at it: where a game goes round, the weight comes back from its limit again and again.
        near = torch.where(log_factor.abs() >= limit - 1, 1, -1)
        at_limit = (state["at_limit"] + near * finite).clamp(min=0)
        now = {"log_factor": log_factor, "cost": cost, "gain": gained, "updates": updates, "at_limit": at_limit}
        for name, number in now.items():
            state[name].copy_(number)  # in place, for a CUDA graph that reads it
        return {"weight": self.weight, "rho": rho, "saturation": at_limit / (_PATIENCE * self.averaging)}

    def _move_to(self, device: torch.device) -> None:
        for name, number in self._state.items():
            if number.device != device:
                self._state[name] = number.to(precise(device)).to(device)  # in this order: no float64 arrives there

    def state_dict(self) -> dict[str, Any]:
        return {"penalty": super().state_dict(), **{name: number.clone() for name, number in self._state.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state["penalty"])
        for name, number in self._state.items():
            number.copy_(state[name])
