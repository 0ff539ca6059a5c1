"""Gradient penalties: what keeps a discriminator Lipschitz, as a term of its loss.

A penalty is a function of the critic's input gradient g = grad_x D(x), flattened, at chosen points. A call returns a
**weighted scalar that the caller adds to its loss before the one backward**; under DDP a separate backward of the
penalty would silently not be averaged over the processes. Calls are pure: no counter, no hidden random state.

    loss = adversarial + penalty(discriminator, real, fake, rng=rng, **conditioning)

To add a penalty on the gradient, subclass ``GradientPenalty`` and override ``squared_distance``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch

Critic = Callable[..., Any]
Points = Literal["interpolate", "real", "fake", "real_and_fake"]

# Which of the caller's own batches each kind of points differentiates: a forward on these can be shared.
_SHAREABLE = {"interpolate": (), "real": ("real",), "fake": ("fake",), "real_and_fake": ("real", "fake")}


def interpolate(
    real: torch.Tensor,
    fake: torch.Tensor,
    interpolation: torch.Tensor | None = None,
    rng: torch.Generator | None = None,
) -> torch.Tensor:
    """a * real + (1 - a) * fake with one a per sample.

    Args:
        real: (batch, ...).
        fake: the same shape.
        interpolation: a, (batch, 1, 1, 1); ``None`` draws it from U[0, 1].
        rng: random generator for a.

    Raises:
        ValueError: the shapes differ.
    """
    if real.shape != fake.shape:
        raise ValueError(f"interpolation pairs real with fake: {tuple(real.shape)} and {tuple(fake.shape)} differ")
    if interpolation is None:
        shape = (real.shape[0], *[1] * (real.ndim - 1))
        interpolation = torch.rand(shape, generator=rng, device=real.device, dtype=real.dtype)
    return interpolation * real + (1 - interpolation) * fake


def _input_gradient(output: Any, points: torch.Tensor) -> torch.Tensor:
    """grad_x sum(D(x)) flattened to (batch, d), with its graph; half types upcast so that norms are computed wide."""
    logits = getattr(output, "logits", output)
    (gradient,) = torch.autograd.grad(logits.sum(), points, create_graph=True)
    gradient = gradient.flatten(1)
    return gradient.float() if gradient.dtype in (torch.float16, torch.bfloat16) else gradient


def _repeat_batch(conditioning: dict[str, Any], times: int) -> dict[str, Any]:
    def repeat(value: Any) -> Any:
        return (
            value.repeat(times, *[1] * (value.ndim - 1)) if isinstance(value, torch.Tensor) and value.ndim else value
        )

    return {name: repeat(value) for name, value in conditioning.items()}


@dataclass(frozen=True)
class GradientPenalty:
    """weight * mean (||g|| - center)^2 over the batch (WGAN-GP with center 1; zero-centred with center 0).

    Every sample's gradient is that of the summed logits: it is purely per-sample unless the critic couples the samples
    of a batch (BatchNorm, minibatch-stddev).

    Args:
        weight: the coefficient that multiplies the mean (or maximum); nothing else is applied, no 1/2.
        center: the norm that costs nothing.
        points: where the gradient is taken: ``interpolate`` (a * real + (1 - a) * fake), ``real``, ``fake`` or
            ``real_and_fake``.
        reduction: ``mean`` or ``max`` over the batch.
        method: ``exact`` (double backward).

    Raises:
        ValueError: a parameter is outside its range.
    """

    weight: float
    center: float = 0.0
    points: Points = "interpolate"
    reduction: Literal["mean", "max"] = "mean"
    method: Literal["exact"] = "exact"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"weight is a finite number >= 0, not {self.weight}")
        for name, allowed in (("points", tuple(_SHAREABLE)), ("reduction", ("mean", "max")), ("method", ("exact",))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is one of {', '.join(allowed)}, not {getattr(self, name)!r}")

    @property
    def shareable(self) -> tuple[str, ...]:
        """The batches (``real``, ``fake``) whose forward pass the penalty can share, if they require grad."""
        return _SHAREABLE[self.points]

    def squared_distance(self, gradient: torch.Tensor) -> torch.Tensor:
        """Per-sample squared distance (batch,) of the flattened gradients (batch, d) from the centre."""
        if self.center == 0:
            return gradient.square().sum(dim=1)
        # vector_norm has a zero subgradient at g = 0, where sqrt(sum(g^2)) would give NaN.
        return (torch.linalg.vector_norm(gradient, dim=1) - self.center).square()

    def __call__(
        self,
        discriminator: Critic,
        real: torch.Tensor | None = None,
        fake: torch.Tensor | None = None,
        *,
        real_logits: Any = None,
        fake_logits: Any = None,
        interpolation: torch.Tensor | None = None,
        rng: torch.Generator | None = None,
        **conditioning: Any,
    ) -> torch.Tensor:
        """The weighted penalty, a scalar with a graph to the critic's parameters.

        Args:
            discriminator: the critic; called as ``discriminator(points, **conditioning)``.
            real: real points (batch, channels, height, width), where the penalty uses them.
            fake: generated points, likewise.
            real_logits: the critic's output on ``real``, if the caller has it and ``real`` required grad: the penalty
                then shares that forward pass. Ignored by penalties on other points.
            fake_logits: the same for ``fake``.
            interpolation: the a of interpolates, (batch, 1, 1, 1); drawn from U[0, 1] if not given.
            rng: random generator for what is drawn.
            conditioning: further keyword arguments of the critic, with the batch of ``real``.

        Raises:
            ValueError: points are missing, empty or of different shapes, or shared logits have no graph to them.
        """
        batches = {"real": (real, real_logits), "fake": (fake, fake_logits)}
        for name in self.shareable or ("real", "fake"):
            points = batches[name][0]
            if points is None or len(points) == 0:
                raise ValueError(f"a penalty on {self.points!r} points needs a non-empty {name} batch")
        if self.shareable and all(batches[name][1] is not None for name in self.shareable):
            shared = [batches[name] for name in self.shareable]
            if not all(points.requires_grad for points, _ in shared):
                raise ValueError("shared logits need points that require grad: call requires_grad_() on them first")
            gradient = torch.cat([_input_gradient(logits, points) for points, logits in shared])
        else:
            if self.points == "interpolate":
                points = interpolate(real.detach(), fake.detach(), interpolation, rng)
            else:
                points = torch.cat([batches[name][0].detach() for name in self.shareable])
                conditioning = _repeat_batch(conditioning, len(self.shareable))
            points = points.requires_grad_()
            gradient = _input_gradient(discriminator(points, **conditioning), points)
        distance = self.squared_distance(gradient)
        return self.weight * (distance.mean() if self.reduction == "mean" else distance.max())


@lru_cache(maxsize=8)
def _random_direction(dim: int, seed: int) -> torch.Tensor:
    direction = torch.randn(dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return direction * (math.sqrt(dim) / torch.linalg.vector_norm(direction))


@dataclass(frozen=True)
class EpsCenteredGradientPenalty(GradientPenalty):
    """weight * mean ||g - eps * u||^2 with eps = sqrt(scale / d): the ε-centred penalty of Li-CFG (arXiv 2501.11236).

    d is the number of coordinates of one input and u a vector of norm sqrt(d), so ||eps * u||^2 = scale at every
    resolution. Since ||g - eps u||^2 = ||g||^2 - 2 eps <g, u> + scale, it is the zero-centred penalty plus a linear
    reward for the critic's slope along u. The formula is that of the first author's public code; the paper's own
    equation and weight could not be read.

    Args:
        weight: the coefficient that multiplies the mean; nothing else is applied.
        scale: squared norm of the centre, >= 0; the published code uses [0, 1], default 0.1.
        direction: u: ``ones`` (all ones, Li-CFG), or as controls ``minus_ones`` and ``random``, one fixed vector.
        direction_seed: seed of the random direction, which is the same on every rank and after every restart.
        points, reduction, method: as in ``GradientPenalty``.

    Raises:
        ValueError: a parameter is outside its range; ``center`` is not a number here and must stay 0.
    """

    scale: float = 0.1
    direction: Literal["ones", "minus_ones", "random"] = "ones"
    direction_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.center != 0:
            raise ValueError("the centre of the ε-centred penalty is set by scale and direction, not by center")
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise ValueError(f"scale is a finite number >= 0, not {self.scale}")
        if self.direction not in ("ones", "minus_ones", "random"):
            raise ValueError(f"direction is one of ones, minus_ones, random, not {self.direction!r}")

    def squared_distance(self, gradient: torch.Tensor) -> torch.Tensor:
        dim = gradient.shape[1]
        direction = {"ones": 1.0, "minus_ones": -1.0}.get(self.direction)
        if direction is None:
            direction = _random_direction(dim, self.direction_seed).to(gradient)
        return (gradient - math.sqrt(self.scale / dim) * direction).square().sum(dim=1)


def r1_penalty(gamma: float) -> GradientPenalty:
    """R1 (Mescheder et al., 2018): gamma / 2 * mean ||grad D||^2 on real points; the applied weight is gamma / 2."""
    return GradientPenalty(weight=gamma / 2, points="real")


def r2_penalty(gamma: float) -> GradientPenalty:
    """R2: gamma / 2 * mean ||grad D||^2 on fake points; the applied weight is gamma / 2."""
    return GradientPenalty(weight=gamma / 2, points="fake")
