"""Gradient penalties: what keeps a discriminator Lipschitz, as a term of its loss.

A penalty is a function of the critic's input gradient g = grad_x D(x), flattened, at chosen points. A call returns a
**weighted scalar that the caller adds to its loss before the one backward**; under DDP a separate backward of the
penalty would silently not be averaged over the processes. Calls are pure: no counter, no hidden random state.

    loss = adversarial + penalty(discriminator, real, fake, rng=rng, **conditioning)

A penalty on ||g|| or ||g - c|| needs only the derivative of D along one direction per sample, w: the unit gradient, or
(g - c) / ||g - c||, found first and held fixed. Hence three methods:

- ``exact`` differentiates g itself (see ``double_backward``); inside a compiled function through ``torch.func.grad``.
- ``tangent`` takes the forward-mode derivative w.g along w: the same parameter gradient for every critic without batch
  statistics, without a second-order graph, so that it compiles.
- ``finite_difference`` takes (D(x + h w) - D(x - h w)) / 2h: works with every layer, fused attention and sharded
  parameters included, but equals the gradient for smooth critics only. On ReLU critics every kink inside the step
  adds a term of order 1/h.

A fourth needs no direction, so no input gradient at all. ||g - c||^2 is the mean of (g.n - n.c)^2 over noise n with
E n n' = I, and g.n is a difference of two values of the critic:

- ``stochastic`` takes ((D(x + h n) - D(x - h n)) / 2h - n.c)^2 at ``draws`` normal n. Its expectation is ||g - c||^2
  with an error of h^2 (g - c).grad(Laplace D); the price is the noise of its parameter gradient.

To add a penalty on the gradient, subclass ``GradientPenalty`` and override ``vector_center``.
"""

import copy
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from .critic import (
    Critic,
    ReentrantCheckpoint,
    frozen,
    full_precision,
    has_drawn,
    input_gradient,
    modules_of,
    noise_state,
    one_critic,
    plain,
    require_points,
    same_noise,
    twice_differentiable,
    usable,
)
from .double_backward import NoSecondDerivative, speed_up_convolutions
from .forward_mode import directional_derivative
from .logits import mean_logit, wide
from .term import Term, require_weights

Points = Literal["interpolate", "real", "fake", "real_and_fake", "perturbed"]
Method = Literal["exact", "tangent", "finite_difference", "stochastic"]

# The caller's batches that each kind of points is made of.
_BATCHES = {
    "interpolate": ("real", "fake"),
    "real": ("real",),
    "fake": ("fake",),
    "real_and_fake": ("real", "fake"),
    "perturbed": ("real",),
}
_SHARDED = {"FullyShardedDataParallel", "FSDPModule"}


def interpolate(
    real: Tensor, fake: Tensor, interpolation: Tensor | None = None, rng: torch.Generator | None = None
) -> Tensor:
    """a * real + (1 - a) * fake with one a per sample, (batch, 1, 1, 1), drawn from U[0, 1] if not given.

    Raises:
        ValueError: the shapes differ, or a is not one number per sample.
    """
    if real.shape != fake.shape:
        raise ValueError(f"interpolation pairs real with fake: {tuple(real.shape)} and {tuple(fake.shape)} differ")
    shape = (real.shape[0], *[1] * (real.ndim - 1))
    if interpolation is None:
        interpolation = torch.rand(shape, generator=rng, device=real.device, dtype=real.dtype)
    if interpolation.numel() != len(real):  # another shape would be broadcast against pixels
        raise ValueError(f"interpolation is one number per sample, {shape}, not {tuple(interpolation.shape)}")
    interpolation = interpolation.reshape(shape)
    return interpolation * real + (1 - interpolation) * fake


def perturb(real: Tensor, interpolation: Tensor | None = None, rng: torch.Generator | None = None) -> Tensor:
    """real + a * (std(real) / 2) * U[0, 1], with one a ~ U[0, 1] per sample: DRAGAN as its public code draws it.

    The deviation is that of the whole batch of this process.
    """
    noise = torch.rand(real.shape, generator=rng, device=real.device, dtype=real.dtype)
    return interpolate(real + 0.5 * real.std(correction=0) * noise, real, interpolation, rng)


def _require_differentiable(modules: Iterable[nn.Module], method: str) -> None:
    """Refuses what would give wrong gradients or none, and warns of what couples the samples."""
    if torch.compiler.is_compiling():
        return
    for module in modules:
        kinds = {kind.__name__ for kind in type(module).__mro__}
        if method == "exact" and kinds & _SHARDED:
            raise ValueError(
                "an exact gradient penalty cannot differentiate twice through sharded parameters (FSDP): keep the "
                "discriminator unsharded, or use method='finite_difference' on a smooth critic"
            )
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            if method == "tangent":
                raise ValueError(
                    "BatchNorm in train mode has no forward-mode derivative per sample: use another method"
                )
            said = "BatchNorm in the critic couples the samples of a batch, so input gradients are not per-sample"
            warnings.warn(said, stacklevel=4)
            return


def _number(penalty: Callable[..., Tensor], discriminator: Critic, *points: Any, **options: Any) -> Tensor | None:
    """A penalty's value where gradients are off, as in a validation; else None."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    with torch.inference_mode(False), torch.enable_grad():
        return penalty(discriminator, *usable(points), **usable(options)).detach()


def _repeated(value: Any, batch: int, times: int) -> Any:
    """Conditioning for a batch that is repeated: tensors with its size first, in lists and maps, too, and lists."""
    if isinstance(value, Tensor):
        return value.repeat(times, *[1] * (value.ndim - 1)) if value.ndim and len(value) == batch else value
    if isinstance(value, dict):
        repeated = {name: _repeated(part, batch, times) for name, part in value.items()}
        if type(value) is dict:
            return repeated
        of_its_kind = copy.copy(value)
        of_its_kind.update(repeated)
        return of_its_kind
    if not isinstance(value, (list, tuple)):
        return value
    parts = [_repeated(part, batch, times) for part in value]
    if len(value) == batch and all(part is old for part, old in zip(parts, value, strict=True)):
        return value * times  # something of every sample, such as its caption
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


@dataclass(frozen=True)
class GradientPenalty(Term):
    """weight * mean (||g|| - center)^2 over the batch (WGAN-GP with center 1; zero-centred with center 0).

    Every sample's gradient is that of the summed logits: it is purely per-sample unless the critic couples the samples
    of a batch (BatchNorm, minibatch-stddev).

    Args:
        weight: the coefficient that multiplies the mean (or maximum); nothing else is applied, no 1/2.
        center: the norm that costs nothing (k of k-centred penalties).
        points: where the gradient is taken: ``interpolate`` (a * real + (1 - a) * fake), ``real``, ``fake``,
            ``real_and_fake`` or ``perturbed`` (real with DRAGAN's noise).
        reduction: ``mean`` or ``max`` over the batch of this process.
        method: ``exact``, ``tangent``, ``finite_difference`` or ``stochastic``, see the module's text.
        one_sided: only norms above the centre cost: (max(0, ||g|| - center))^2 (LP, Petzka et al., 2018).
        step: h of finite differences and of stochastic ones, in units of the input; 0.1 suits smooth critics on images
            in [-1, 1].
        draws: noise vectors per sample of ``stochastic``.
        antithetic: whether ``stochastic`` takes the difference of two sides. One side, (D(x + h n) - D(x)) / h, costs
            half, and has an error of h^2 that grows with the curvature.

    Raises:
        ValueError: a parameter is outside its range; or the method is ``stochastic``, and the centre is a norm.
    """

    weight: float
    center: float = 0.0
    points: Points = "interpolate"
    reduction: Literal["mean", "max"] = "mean"
    method: Method = "exact"
    one_sided: bool = False
    step: float = 0.1
    draws: int = 1
    antithetic: bool = True

    def __post_init__(self) -> None:
        require_weights(self, "weight")
        if self.draws < 1:
            raise ValueError(f"draws is at least 1, not {self.draws}")
        if not math.isfinite(self.center):
            raise ValueError(f"center is a finite number, not {self.center}")
        if not (math.isfinite(self.step) and self.step > 0):
            raise ValueError(f"step is a finite number > 0, not {self.step}")
        methods = get_args(Method)
        for name, allowed in (("points", tuple(_BATCHES)), ("reduction", ("mean", "max")), ("method", methods)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        if self.method == "stochastic" and (self.center != 0 or self.one_sided or self.reduction == "max"):
            raise ValueError(
                "a stochastic penalty is the mean of ||g - c||^2 for a vector c: use another method for a norm as "
                "centre, one side of it, or the maximum"
            )

    @property
    def shareable(self) -> tuple[str, ...]:
        shares = self.points in ("real", "fake", "real_and_fake") and self.method in ("exact", "tangent")
        return _BATCHES[self.points] if shares else ()

    @property
    def differentiates_twice(self) -> bool:
        return self.method == "exact"

    @property
    def pairs_fakes(self) -> bool:
        return "fake" in _BATCHES[self.points]

    def vector_center(self, gradient: Tensor) -> Tensor | None:
        """The vector c, broadcastable to gradients (batch, d), that ||g - c|| is measured from; None for ||g||."""
        return None

    def _residual(self, gradient: Tensor) -> Tensor:
        center = self.vector_center(gradient)
        return gradient if center is None else gradient - center

    def _squared_distance(self, norm: Tensor) -> Tensor:
        distance = norm - self.center
        return (distance.clamp(min=0) if self.one_sided else distance).square()

    def squared_distance(self, gradient: Tensor) -> Tensor:
        """Per-sample squared distance (batch,) of the flattened gradients (batch, d) from the centre."""
        residual = self._residual(gradient)
        if self.center == 0:
            return residual.square().sum(dim=1)
        # vector_norm has a zero subgradient at g = 0, where sqrt(sum(g^2)) would give NaN.
        return self._squared_distance(torch.linalg.vector_norm(residual, dim=1))

    def __call__(
        self,
        discriminator: Critic,
        real: Tensor | None = None,
        fake: Tensor | None = None,
        *,
        real_logits: Any = None,
        fake_logits: Any = None,
        interpolation: Tensor | None = None,
        rng: torch.Generator | None = None,
        **conditioning: Any,
    ) -> Tensor:
        """The weighted penalty, a scalar with a graph to the critic's parameters; arguments as in ``Term``.

        Args:
            real_logits: the critic's output on ``real``, if the caller has it and ``real`` required grad: the penalty
                then shares that forward pass, as with ``fake_logits``. Ignored by penalties on other points.
            interpolation: the a of interpolates and perturbed points, (batch, 1, 1, 1); None draws it from U[0, 1].

        Raises:
            ValueError: points are missing, empty, no floating-point numbers or of different shapes; the logits are
                not one per sample or have no graph to the points; or the critic does not go with the method.
        """
        options = {"interpolation": interpolation, "rng": rng, **conditioning}
        if (number := _number(self, discriminator, real, fake, **options)) is not None:
            return number
        given: dict[str, tuple[Any, Any]] = {"real": (real, real_logits), "fake": (fake, fake_logits)}
        batches = []
        for name in _BATCHES[self.points]:
            if given[name][0] is None or len(given[name][0]) == 0:
                raise ValueError(f"a penalty on {self.points!r} points needs a non-empty {name} batch")
            batches.append(require_points(given[name][0], name).detach())
        _require_differentiable(modules_of(discriminator), self.method)
        if not torch.compiler.is_compiling():
            speed_up_convolutions()
        shared = [given[name] for name in self.shareable]
        if any(logits is None for _, logits in shared) or torch.compiler.is_compiling():
            shared = []
        if not all(points.requires_grad for points, _ in shared):
            raise ValueError("shared logits need points that require grad: call requires_grad_() on them first")
        points = self._points(batches, interpolation, rng)
        if self.points == "real_and_fake":
            conditioning = _repeated(conditioning, len(batches[0]), 2)
        if self.method == "exact":
            gradient = self._gradient(discriminator, points, shared, conditioning, graph=True)
            distance = self.squared_distance(gradient)
        elif self.method == "stochastic":
            distance = self._noisy_distance(discriminator, points, conditioning, rng)
        else:
            distance = self._squared_distance(self._slope(discriminator, points, shared, conditioning))
        return self.weight * (distance.mean() if self.reduction == "mean" else distance.max())

    def _points(self, batches: list[Tensor], interpolation: Tensor | None, rng: torch.Generator | None) -> Tensor:
        if self.points == "interpolate":
            return interpolate(batches[0], batches[1], interpolation, rng)
        if self.points == "perturbed":
            return perturb(batches[0], interpolation, rng)
        return batches[0] if len(batches) == 1 else torch.cat(batches)  # one batch needs no copy

    def _slope(self, discriminator: Critic, points: Tensor, shared: list, conditioning: dict) -> Tensor:
        """The derivative along the fixed direction w, less w.c: ||g - c|| (batch,) in value and in gradient."""
        critic = plain(discriminator) if self.method == "tangent" else discriminator
        if not isinstance(critic, nn.Module):
            shared = []  # only a pass of its own tells what a function calls
        noise = noise_state(points.device) if shared else None
        with one_critic(critic, points.device) as passed:
            gradient = self._direction(passed, critic, points, shared, conditioning)
            center = self.vector_center(gradient)
            direction = _unit(self._residual(gradient)).view_as(points).to(points.dtype)
            if self.method == "tangent":

                def flat(x: Tensor) -> Tensor:
                    return mean_logit(critic(x, **conditioning), len(points))

                slope = wide(passed(directional_derivative, flat, points.detach(), direction))
            else:
                slope = _central_difference(passed, critic, points, direction, conditioning, self.step)
        if noise is not None and has_drawn(points.device, noise):
            # The critic draws random numbers, others than in the shared pass: an own pass draws the same.
            return self._slope(discriminator, points, [], conditioning)
        return slope if center is None else slope - (direction.flatten(1) * center).sum(dim=1)

    def _direction(
        self, passed: Callable[..., Any], critic: Critic, points: Tensor, shared: list, conditioning: dict
    ) -> Tensor:
        """The input gradients (batch, d) that give the direction, without a graph."""
        if shared:  # from the caller's pass
            return self._gradient(critic, points, shared, conditioning, False)
        if self.method == "tangent" or torch.compiler.is_compiling():
            return passed(self._gradient, critic, points, [], conditioning, False)
        return passed(_first_order_gradient, plain(critic), points, conditioning)

    def _noisy_distance(
        self, critic: Critic, points: Tensor, conditioning: dict, rng: torch.Generator | None
    ) -> Tensor:
        """The mean over draws of (n.g - n.c)^2, (batch,), with n.g from values of the critic."""
        shape, step = (self.draws, *points.shape), self.step
        noise = torch.randn(shape, generator=rng, device=points.device, dtype=points.dtype)
        offsets = [*step * noise, *(-step * noise if self.antithetic else [None])]
        with full_precision(points.device.type), one_critic(critic, points.device) as passed:
            values = torch.stack([passed(_value, critic, points, offset, conditioning) for offset in offsets])
            ahead, behind = values[: self.draws], values[self.draws :]  # one behind them all: D(x)
            slopes = (ahead - behind) / (2 * step if self.antithetic else step)
            flat = wide(noise.flatten(2))
            center = self.vector_center(flat[0])
            if center is not None:
                slopes = slopes - (flat * center).sum(dim=2)
            return slopes.square().mean(dim=0)

    def _gradient(self, critic: Critic, points: Tensor, shared: list, conditioning: dict, graph: bool) -> Tensor:
        """Input gradients (batch, d); with ``graph`` they can be differentiated."""
        if torch.compiler.is_compiling():
            with twice_differentiable():
                gradient = torch.func.grad(lambda x: mean_logit(critic(x, **conditioning), len(x)).sum())(points)
            return wide((gradient if graph else gradient.detach()).flatten(1))
        if shared:
            try:
                given = [(mean_logit(logits, len(batch)), batch) for batch, logits in shared]
                parts = [input_gradient(logits, batch, graph=graph, retain=True) for logits, batch in given]
                return wide(torch.cat(parts).flatten(1))
            except NoSecondDerivative:
                pass  # the caller's pass took fused attention; one of its own does not
        points = points.requires_grad_()
        with twice_differentiable():
            logits = mean_logit(critic(points, **conditioning), len(points))
            return wide(input_gradient(logits, points, graph=graph).flatten(1))


def _unit(vectors: Tensor) -> Tensor:
    """Vectors (batch, d) divided by their norm; zero stays zero."""
    norm = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return (vectors / norm.clamp(min=torch.finfo(vectors.dtype).tiny)).detach()


def _first_order_gradient(critic: Critic, points: Tensor, conditioning: dict) -> Tensor:
    """Input gradients (batch, d) that leave no gradient anywhere else."""
    points, noise = points.detach().requires_grad_(), noise_state(points.device)
    with torch.enable_grad(), full_precision(points.device.type):
        sharded = any(kind.__name__ in _SHARDED for module in modules_of(critic) for kind in type(module).__mro__)
        try:
            if not sharded:
                logits = mean_logit(critic(points, **conditioning), len(points))
                return wide(input_gradient(logits, points).flatten(1))
        except ReentrantCheckpoint as error:
            if not isinstance(critic, nn.Module):
                raise ValueError(
                    "a function around a checkpointed critic has no finite differences: pass the module"
                ) from error
        # Sharding and reentrant checkpointing know a plain backward pass alone.
        conditioning = tree_map_only(Tensor, Tensor.detach, conditioning)
        with frozen(cast(nn.Module, critic)), same_noise(points.device, noise):
            mean_logit(critic(points, **conditioning), len(points)).sum().backward()
    return wide(cast(Tensor, points.grad).flatten(1))


def _central_difference(
    passed: Callable[..., Any], critic: Critic, points: Tensor, direction: Tensor, conditioning: dict, step: float
) -> Tensor:
    """(D(x + h w) - D(x - h w)) / 2h, (batch,), with autocast off: half types would lose the difference."""
    with full_precision(points.device.type):
        ahead, behind = (
            passed(_value, critic, points, offset, conditioning) for offset in (step * direction, -step * direction)
        )
        return (ahead - behind) / (2 * step)


def _value(critic: Critic, points: Tensor, offset: Tensor | None, conditioning: dict) -> Tensor:
    """The critic's value (batch,) at points that are moved by an offset."""
    moved = points.detach() if offset is None else points.detach() + offset
    if not torch.compiler.is_compiling():
        moved.requires_grad_()  # reentrant checkpointing only keeps a graph for inputs that require grad
    return mean_logit(critic(moved, **conditioning), len(points))


@torch.compiler.assume_constant_result
def _random_direction(dim: int, seed: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return _made_once(dim, seed, dtype, device)


@lru_cache(maxsize=8)  # on the device, too, for at a copy in each step the host would wait
def _made_once(dim: int, seed: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    direction = torch.randn(dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (direction * (math.sqrt(dim) / torch.linalg.vector_norm(direction))).to(dtype).to(device)


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
        points, reduction, method, step, draws, antithetic: as in ``GradientPenalty``; ``center`` and ``one_sided``
            have no meaning here.

    Raises:
        ValueError: a parameter is outside its range.
    """

    scale: float = 0.1
    direction: Literal["ones", "minus_ones", "random"] = "ones"
    direction_seed: int = 0
    # The base's own options by keyword only, so that weight, scale and direction can be given by position.
    center: float = field(default=0.0, kw_only=True)
    points: Points = field(default="interpolate", kw_only=True)
    reduction: Literal["mean", "max"] = field(default="mean", kw_only=True)
    method: Method = field(default="exact", kw_only=True)
    one_sided: bool = field(default=False, kw_only=True)
    step: float = field(default=0.1, kw_only=True)
    draws: int = field(default=1, kw_only=True)
    antithetic: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.center != 0 or self.one_sided:
            raise ValueError("the centre of the ε-centred penalty is set by scale and direction, not by center")
        require_weights(self, "scale")
        if self.direction not in ("ones", "minus_ones", "random"):
            raise ValueError(f"direction is one of ones, minus_ones, random, not {self.direction!r}")

    def vector_center(self, gradient: Tensor) -> Tensor:
        dim = gradient.shape[1]
        eps = math.sqrt(self.scale / dim)
        if self.direction == "random":
            return eps * _random_direction(dim, self.direction_seed, gradient.dtype, gradient.device)[None]
        return torch.full_like(gradient[:1], eps if self.direction == "ones" else -eps)


@dataclass(frozen=True)
class MaxGradientPenalty(GradientPenalty):
    """weight * max over the batch of ||g||^2 (MaxGP of Lipschitz GANs, Zhou et al., 2019; their weight is 0.1).

    The maximum is over this process's batch, so two processes are not one with the doubled batch.
    """

    reduction: Literal["mean", "max"] = "max"


@dataclass(frozen=True)
class AdversarialLipschitzPenalty(Term):
    """weight * mean max(0, |D(x) - D(x + r)| / ||r|| - k)^2 at an adversarial r (ALP; Terjek, ICLR 2020).

    r points where D changes fastest, found by one power iteration from a random direction; its length is U[0.1, 10].
    x + r is clipped to [-1, 1] and ||r|| measured afterwards. No second-order graph. As in the author's wgan_alp.py.

    Args:
        weight: the coefficient that multiplies the mean; 10 in the paper.
        lipschitz_constant: k, the slope that costs nothing.
        probe: length of the probing step of the power iteration; 10 in the paper.

    Raises:
        ValueError: a parameter is outside its range.
    """

    weight: float = 10.0
    lipschitz_constant: float = 1.0
    probe: float = 10.0
    differentiates_twice = False

    def __post_init__(self) -> None:
        require_weights(self, "weight", "lipschitz_constant", "probe")

    def __call__(
        self,
        discriminator: Critic,
        real: Tensor,
        fake: Tensor,
        *,
        rng: torch.Generator | None = None,
        real_logits: Any = None,
        fake_logits: Any = None,
        **conditioning: Any,
    ) -> Tensor:
        """The weighted penalty at real and fake points together; arguments as in ``GradientPenalty``.

        Raises:
            ValueError: a batch is empty or no floating-point numbers, or the logits are not one per sample.
        """
        if (number := _number(self, discriminator, real, fake, rng=rng, **conditioning)) is not None:
            return number
        points = torch.cat([require_points(real, "real").detach(), require_points(fake, "fake").detach()])
        conditioning = _repeated(conditioning, len(real), 2)

        def critic(x: Tensor) -> Tensor:
            return mean_logit(discriminator(x, **conditioning), len(points))

        def normalized(vectors: Tensor) -> Tensor:
            return _unit(wide(vectors.flatten(1))).view_as(points).to(points.dtype)

        shape = (len(points), *[1] * (points.ndim - 1))
        direction = normalized(torch.rand(points.shape, generator=rng, device=points.device, dtype=points.dtype) - 0.5)
        length = 0.1 + 9.9 * torch.rand(shape, generator=rng, device=points.device, dtype=points.dtype)

        def change(direction: Tensor) -> Tensor:
            return (here.detach() - critic(points + self.probe * direction)).abs().mean()

        def steepest(direction: Tensor) -> Tensor:
            if torch.compiler.is_compiling():
                return torch.func.grad(change)(direction)
            with torch.enable_grad():
                return input_gradient(change(direction.requires_grad_()), direction)

        with full_precision(points.device.type), one_critic(discriminator, points.device) as passed:
            here = passed(critic, points)
            moved = (points + length * normalized(passed(steepest, direction))).clamp(-1, 1)
            distance = torch.linalg.vector_norm(wide((moved - points).flatten(1)), dim=1).clamp(min=1e-10)
            slope = (here - passed(critic, moved)).abs() / distance
        return self.weight * (slope - self.lipschitz_constant).clamp(min=0).square().mean()


def r1_penalty(gamma: float, method: Method = "exact", **options: Any) -> GradientPenalty:
    """R1 (Mescheder et al., 2018): gamma / 2 * mean ||grad D||^2 on real points; the applied weight is gamma / 2.

    Further ``options`` are those of ``GradientPenalty``, here and below.
    """
    return GradientPenalty(weight=gamma / 2, points="real", method=method, **options)


def r2_penalty(gamma: float, method: Method = "exact", **options: Any) -> GradientPenalty:
    """R2: gamma / 2 * mean ||grad D||^2 on fake points; the applied weight is gamma / 2."""
    return GradientPenalty(weight=gamma / 2, points="fake", method=method, **options)


def wgan_gp(weight: float = 10.0, method: Method = "exact", **options: Any) -> GradientPenalty:
    """WGAN-GP (Gulrajani et al., 2017): weight * mean (||grad D|| - 1)^2 on interpolates."""
    return GradientPenalty(weight=weight, center=1.0, method=method, **options)


def dragan(weight: float = 10.0, method: Method = "exact", **options: Any) -> GradientPenalty:
    """DRAGAN (Kodali et al., 2017): weight * mean (||grad D|| - 1)^2 around real points (see ``perturb``)."""
    return GradientPenalty(weight=weight, center=1.0, points="perturbed", method=method, **options)
