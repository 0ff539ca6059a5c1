"""Terms that are added to a player's loss: penalties, consistency, classification, and a class of one's own."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Term(Protocol):
    """One term of the discriminator's loss, and where it has one, its part in the generator's.

    A class of one's own derives from this one and writes ``__call__``; the rest has defaults. The trainer adds the
    term to the loss before the one backward, logs it under ``name``, saves ``state_dict()`` in every checkpoint and
    gives it back on resume. Settings are fields of a dataclass, or a mapping ``config``: a run with other settings is
    another run. What changes during a training belongs into the state, not into the settings.

    Attributes:
        name: how it is called in logs.
        shareable: the batches (``real``, ``fake``) whose forward pass it shares if they require grad.
        differentiates_twice: whether it differentiates the critic's input gradient again, which sharded parameters do
            not allow.
        uses_real_logits: whether its part in the generator's loss needs the critic's output on real points, too.
        pairs_fakes: whether generated points need the conditioning of the real ones beside them, because it gives the
            critic them, or points between, with that conditioning.
        weighs_the_loss: whether it is told after every update, see ``after_update``.
    """

    name: str = "penalty"
    shareable: tuple[str, ...] = ()
    differentiates_twice: bool = True
    uses_real_logits: bool = False
    pairs_fakes: bool = True
    weighs_the_loss: bool = False

    def __call__(
        self,
        discriminator: Callable[..., Any],
        real: Tensor,
        fake: Tensor,
        *,
        real_logits: Any = None,
        fake_logits: Any = None,
        rng: torch.Generator | None = None,
        **conditioning: Any,
    ) -> Tensor | None:
        """The weighted term, a scalar with a graph to the discriminator's parameters; None if it has none.

        Args:
            discriminator: the critic; called as ``discriminator(points, **conditioning)``.
            real: real points (batch, channels, height, width).
            fake: generated points, likewise.
            real_logits: the critic's output on ``real``; has a graph to ``real`` where that is ``shareable``.
            fake_logits: the same for ``fake``.
            rng: random generator for what is drawn; None takes PyTorch's own.
            conditioning: further keyword arguments of the critic, with the batch of ``real``; and ``neighbour``, the
                points generated from ``neighbouring_noise``, where there is such noise.
        """
        raise NotImplementedError

    def generator_term(self, fake_logits: Any, **conditioning: Any) -> Tensor | None:
        """Its weighted part in the generator's loss, at every update, from the critic's output; or None.

        The conditioning is as above, and has ``fake`` with ``neighbour`` where there is neighbouring noise, and
        ``real_logits``, the critic's output on real points, where the term ``uses_real_logits``.
        """
        return None

    def neighbouring_noise(self, noise: Mapping[str, Tensor], rng: torch.Generator | None) -> dict[str, Tensor] | None:
        """The noise of a second batch of generated points that it compares with the first; None without one.

        The first started from ``noise``, such as ``{"latents": (batch, latent_dim)}``.
        """
        return None

    def after_update(self, value: Tensor, gain: Tensor) -> Mapping[str, Tensor]:
        """Called after an update of the discriminator in which it was due, where it ``weighs_the_loss``.

        Every process gets the same two scalars, means over all of them: the term's ``value`` per update, and what the
        critic's adversarial loss gains over that of D = 0. Returns scalars for the logs by their names.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Its state, which it has learned or counted: tensors, numbers, strings and nested dicts and lists of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what ``state_dict`` gave."""


def require_weights(owner: object, *names: str) -> None:
    """Raises a ValueError if one of these attributes is no finite number >= 0."""
    for name in names:
        value = getattr(owner, name)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} is a finite number >= 0, not {value}")


def in_words(thing: Any) -> str:
    """Describes a technique: its own text, or the words of its class's name and settings that are no defaults."""
    if isinstance(thing, AroundTerm) and type(thing).__str__ is not object.__str__:
        return str(thing)
    kind = getattr(thing, "__name__", type(thing).__name__)
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).replace("_", " ").strip().lower()
    known = fields(thing) if is_dataclass(thing) else ()
    values = {item.name: (getattr(thing, item.name), item.default) for item in known if item.init and item.repr}
    shown = [
        f"{name.replace('_', ' ')} {in_words(value) if is_dataclass(value) else value}"
        for name, (value, usual) in values.items()
        if name == "weight" or value != usual
    ]
    return f"{words} ({', '.join(shown)})" if shown else words


class AroundTerm(Term):
    """A term around another, or around any function that is called like one; like it where nothing else is written."""

    penalty: Callable[..., Tensor | None]

    def _asked(self, name: str, default: Any) -> Any:
        """An attribute of the penalty, or the default of a function that is no ``Term``."""
        return getattr(self.penalty, name, default)

    @property
    def innermost(self) -> Any:
        """The penalty that is no longer around another."""
        return self._asked("innermost", self.penalty)

    @property
    def shareable(self) -> tuple[str, ...]:
        return self._asked("shareable", ())

    @property
    def differentiates_twice(self) -> bool:
        return self._asked("differentiates_twice", True)

    @property
    def uses_real_logits(self) -> bool:
        return self._asked("uses_real_logits", False)

    @property
    def pairs_fakes(self) -> bool:
        return self._asked("pairs_fakes", True)

    @property
    def has_generator_term(self) -> bool:
        """True if it has a term in the generator's loss, too; most concern the discriminator alone."""
        own = getattr(type(self.innermost), "generator_term", None)
        return own is not None and own is not Term.generator_term

    def generator_term(self, fake_logits: Any, **conditioning: Any) -> Tensor | None:
        return self.innermost.generator_term(fake_logits, **conditioning) if self.has_generator_term else None

    def neighbouring_noise(self, noise: Mapping[str, Tensor], rng: torch.Generator | None) -> dict[str, Tensor] | None:
        return self._asked("neighbouring_noise", lambda noise, rng: None)(noise, rng)

    def state_dict(self) -> dict[str, Any]:
        return self._asked("state_dict", dict)()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._asked("load_state_dict", lambda state: None)(state)


@dataclass(frozen=True)
class LazyPenalty(AroundTerm):
    """A term that is due at every ``interval``-th discriminator update, counted from 0.

    Args:
        penalty: a ``Term``, or any function that is called like one.
        interval: discriminator updates from one call to the next.
        multiply_by_interval: multiply the term by the interval, as StyleGAN2 does; DDGAN does not.
        name: how the term is called in logs; the penalty's own name if not given.

    Raises:
        ValueError: the interval is below 1.
    """

    penalty: Callable[..., Tensor | None]
    interval: int = 1
    multiply_by_interval: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise ValueError(f"a penalty's interval is at least 1 update, not {self.interval}")
        if not self.name:
            object.__setattr__(self, "name", self._asked("name", "penalty"))

    def __str__(self) -> str:
        if self.interval == 1:
            return in_words(self.penalty)
        times = "" if self.multiply_by_interval else "not "
        return f"{in_words(self.penalty)}, at every {self.interval} updates, {times}multiplied by the interval"

    def due(self, update: int) -> bool:
        """True if it is to be called at this discriminator update."""
        return update % self.interval == 0

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor | None:
        value = self.penalty(*args, **kwargs)
        return value if value is None or not self.multiply_by_interval else value * self.interval

    @property
    def weighs_the_loss(self) -> bool:
        return self._asked("weighs_the_loss", False)

    def after_update(self, value: Tensor, gain: Tensor) -> dict[str, Tensor]:
        """The penalty is told what it costs per update, those between included; the numbers bear the term's name."""
        numbers = self._asked("after_update", lambda value, gain: {})(value / self.interval, gain)
        return {f"{self.name}_{name}": number for name, number in numbers.items()}
