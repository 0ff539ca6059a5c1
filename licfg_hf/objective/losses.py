"""Adversarial losses: what the discriminator and the generator minimize, as functions of the critic's logits.

Everywhere a larger logit means more real. A loss is three scalar functions: psi of the real and phi of the fake
logits for the discriminator, and the generator's term of the fake logits. To add one, add a line to ``_LOSSES``.

Any loss L can be **domain-scaled** to L(alpha * u) / alpha (Qin, Mitra, Wonka, ECCV 2020): alpha -> 0 makes it linear
with slope L'(0), whatever it was. For tiny alpha the value is all L(0) / alpha and says nothing; the slope, which
trains, stays right, and ``excess_over_zero`` gives the part of the value that moves.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .logits import every_logit, heads_of, reduced

ScalarFunction = Callable[[Tensor], Tensor]

_ALPHA_RANGE = (1e-25, 1e11)
_NEAR_ZERO = (
    1e-2  # of alpha * logit: below it a difference of float32 numbers has fewer digits than two terms of Taylor
)


@dataclass(frozen=True)
class LipschitzGANConditions:
    """Conditions of Zhou et al. (Lipschitz GANs, ICML 2019, section 3) that a loss meets, checked on a grid.

    Attributes:
        increasing: phi' > 0.
        convex: phi'' >= 0.
        balanced: some a has phi'(a) + psi'(a) = 0.
        mirrored: psi(u) = phi(-u).
        strictly_convex: phi'' > 0, which makes the optimal critic unique.
    """

    increasing: bool
    convex: bool
    balanced: bool
    mirrored: bool
    strictly_convex: bool

    @property
    def met(self) -> bool:
        """True if the theory holds: phi increasing and convex, mirrored by psi, with a balance point."""
        return self.increasing and self.convex and self.balanced and self.mirrored


class AdversarialLoss:
    """(mean psi(alpha D(x)) + mean phi(alpha D(G(z)))) / alpha; the generator likewise with its own term.

    Args:
        phi: scalar function of the fake logits that the discriminator minimizes (increasing).
        psi: the same for real logits; ``None`` means phi(-u), as in Lipschitz GANs.
        generator_term: scalar function of the fake logits that the generator minimizes; ``None`` means psi.
        alpha: domain scaling, in [1e-25, 1e11]; 1 is the plain loss.
        name: how the loss is called in logs and cards.
        weight: multiplies the losses of both players, such as 1/2 in PGN's Algorithm 1.
        heads: ``mean`` or ``sum`` over the heads of a critic that has several; over positions it is the mean.

    Raises:
        ValueError: alpha, the weight or ``heads`` is outside its range.
    """

    uses_real_logits = False  # whether the generator's loss needs the critic's output on real images

    def __init__(
        self,
        phi: ScalarFunction,
        psi: ScalarFunction | None = None,
        generator_term: ScalarFunction | None = None,
        alpha: float = 1.0,
        name: str = "custom",
        weight: float = 1.0,
        heads: Literal["mean", "sum"] = "mean",
    ):
        if heads not in ("mean", "sum"):
            raise ValueError(f"heads is mean or sum, not {heads!r}")
        if not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"weight is a finite number > 0, not {weight}")
        if not _ALPHA_RANGE[0] <= alpha <= _ALPHA_RANGE[1]:
            raise ValueError(f"alpha is in [{_ALPHA_RANGE[0]:g}, {_ALPHA_RANGE[1]:g}], not {alpha}")
        self.phi = phi
        self.psi = psi or (lambda logits: phi(-logits))
        self.generator_term = generator_term or self.psi
        self._at_zero = {term: _taylor(term) for term in (self.phi, self.psi, self.generator_term)}
        self.alpha = alpha
        self.name = name
        self.weight = weight
        self.heads: Literal["mean", "sum"] = heads

    def discriminator(self, real_logits: Any, fake_logits: Any) -> Tensor:
        """Scalar loss of the discriminator: mean real term + mean fake term (the two batches may differ in size).

        The logits are outputs of the critic, in any form that ``heads_of`` reads.

        Raises:
            ValueError: they are no logits, such as classes.
            OverflowError: a term that grows exponentially left the range of its type. Only on the CPU: on another
                device, where the host would wait for the answer, the loss is infinite.
        """
        return self._mean(self.psi, heads_of(real_logits)) + self._mean(self.phi, heads_of(fake_logits))

    def generator(self, fake_logits: Any, real_logits: Any = None) -> Tensor:
        """Scalar loss of the generator; ``real_logits`` is for losses that pair real and fake, others ignore it."""
        return self._mean(self.generator_term, heads_of(fake_logits))

    def _mean(self, function: ScalarFunction, heads: Sequence[Tensor]) -> Tensor:
        """The function at every position, averaged over positions and samples, and over heads (or their sum)."""
        with torch.autocast(heads[0].device.type, enabled=False):
            means = [self.weight * function(self.alpha * logits).mean() / self.alpha for logits in heads]
        return reduced(means, self.heads)

    def slopes(self, real_logits: Any, fake_logits: Any) -> dict[str, Tensor]:
        """L'(alpha u) of each term at every logit, without the weight: float64 (n,) on the CPU.

        They are called ``real``, ``fake`` and ``generator``; n is the batch where a sample has one logit.
        """
        real, fake = every_logit(real_logits), every_logit(fake_logits)
        return {
            "real": self._slopes(self.psi, real),
            "fake": self._slopes(self.phi, fake),
            "generator": self._slopes(self.generator_term, fake),
        }

    def _slopes(self, function: ScalarFunction, logits: Tensor) -> Tensor:
        points = (self.alpha * logits.detach().cpu().double()).requires_grad_()
        with torch.enable_grad():
            try:
                return torch.autograd.grad(function(points).sum(), points)[0]
            except OverflowError:
                return torch.full_like(points, math.inf).detach()

    @torch.no_grad()
    def excess_over_zero(self, real_logits: Any, fake_logits: Any) -> dict[str, Tensor]:
        """Both losses, ``discriminator`` and ``generator``, minus what they are at logits of zero.

        For logs where L(0) / alpha drowns the value. Near zero, where the difference would drown as well, by Taylor's
        formula; so float32 gives four digits.
        """
        real, fake = heads_of(real_logits), heads_of(fake_logits)
        return {
            "discriminator": self._excess(self.psi, real) + self._excess(self.phi, fake),
            "generator": self._excess(self.generator_term, fake),
        }

    def _excess(self, function: ScalarFunction, heads: Sequence[Tensor]) -> Tensor:
        """mean (L(alpha u) - L(0)) / alpha, without asking the device for a value."""
        value, slope, curvature = self._at_zero[function]

        def excess(logits: Tensor) -> Tensor:
            scaled = self.alpha * logits
            with torch.autocast(logits.device.type, enabled=False):
                far = (function(scaled) - value) / self.alpha
            near = logits * (slope + curvature / 2 * scaled)
            return self.weight * torch.where(scaled.abs() > _NEAR_ZERO, far, near).mean()

        return reduced([excess(logits) for logits in heads], self.heads)

    def lipschitz_gan_conditions(self, reach: float = 8.0) -> LipschitzGANConditions:
        """Checks the conditions of Lipschitz GANs numerically, on a grid of logits in [-reach, reach]."""
        grid = torch.linspace(-reach, reach, 1601, dtype=torch.float64)

        def slopes(function: ScalarFunction) -> tuple[Tensor, Tensor]:
            points = grid.clone().requires_grad_()
            value = function(points)
            (first,) = torch.autograd.grad(value.sum(), points, create_graph=True)
            if not first.requires_grad:
                return first, torch.zeros_like(first)
            (second,) = torch.autograd.grad(first.sum(), points, allow_unused=True)
            return first.detach(), torch.zeros_like(first) if second is None else second

        (first, second), (mirror, _) = slopes(self.phi), slopes(self.psi)
        total = first + mirror
        convex = bool((second >= -1e-12).all()) and bool((first.diff() >= -1e-12).all())
        return LipschitzGANConditions(
            increasing=bool((first > 0).all()),
            convex=convex,
            balanced=bool(total.abs().min() < 1e-9) or bool((total.min() < 0) & (total.max() > 0)),
            mirrored=torch.allclose(self.psi(grid), self.phi(-grid)),
            strictly_convex=convex and bool((second > 0).all()),
        )

    @property
    def config(self) -> dict[str, str | float]:
        """The settings that tell it from other losses of its class."""
        summed = {"heads": self.heads} if self.heads != "mean" else {}
        return {"name": self.name, "alpha": self.alpha, "weight": self.weight, **summed}

    def __str__(self) -> str:
        numbers = [f"{name} {value:g}" for name in ("alpha", "weight") if (value := getattr(self, name)) != 1]
        return f"{self.name.replace('_', ' ')} loss" + (f" ({', '.join(numbers)})" if numbers else "")

    def __repr__(self) -> str:
        numbers = [f", {name}={value:g}" for name in ("alpha", "weight") if (value := getattr(self, name)) != 1]
        return f"{type(self).__name__}({self.name}{''.join(numbers)})"


class RelativisticLoss(AdversarialLoss):
    """The loss on differences of paired logits (RpGAN; Jolicoeur-Martineau, 2018; R3GAN, 2024).

    Discriminator: mean f(alpha (D(x) - D(G(z)))) / alpha over pairs of the batch, position by position; generator: the
    same with the sign turned. A ValueError says that real logits are missing or that the two differ in size.

    Args:
        function: decreasing scalar function f; softplus(-u) by default.
        alpha, name, weight, heads: as in ``AdversarialLoss``.
    """

    uses_real_logits = True

    def __init__(
        self,
        function: ScalarFunction = lambda u: F.softplus(-u),
        alpha: float = 1.0,
        name: str = "relativistic",
        weight: float = 1.0,
        heads: Literal["mean", "sum"] = "mean",
    ):
        super().__init__(phi=lambda u: function(-u), psi=function, alpha=alpha, name=name, weight=weight, heads=heads)

    @staticmethod
    def _pairs(real_logits: Any, fake_logits: Any) -> list[Tensor]:
        real, fake = heads_of(real_logits), heads_of(fake_logits)
        sizes = [
            ", ".join(f"{len(head)}" if head.shape[1] == 1 else f"{len(head)}x{head.shape[1]}" for head in heads)
            for heads in (real, fake)
        ]
        if sizes[0] != sizes[1]:
            raise ValueError(f"a relativistic loss pairs real with fake logits: {sizes[0]} and {sizes[1]} differ")
        return [head - other for head, other in zip(real, fake, strict=True)]

    def discriminator(self, real_logits: Any, fake_logits: Any) -> Tensor:
        """Scalar loss of the discriminator."""
        return self._mean(self.psi, self._pairs(real_logits, fake_logits))

    def generator(self, fake_logits: Any, real_logits: Any = None) -> Tensor:
        """Scalar loss of the generator, which needs ``real_logits``."""
        if real_logits is None:
            raise ValueError("the generator's relativistic loss needs real_logits, too")
        return self._mean(self.phi, self._pairs(real_logits, fake_logits))

    def slopes(self, real_logits: Any, fake_logits: Any) -> dict[str, Tensor]:
        """Slopes by the real and by the fake logit of each pair, and the generator's by its fake logit."""
        pairs = torch.cat([pair.flatten() for pair in self._pairs(real_logits, fake_logits)])
        real, generator = self._slopes(self.psi, pairs), -self._slopes(self.phi, pairs)
        return {"real": real, "fake": -real, "generator": generator}

    @torch.no_grad()
    def excess_over_zero(self, real_logits: Any, fake_logits: Any) -> dict[str, Tensor]:
        pairs = self._pairs(real_logits, fake_logits)
        return {"discriminator": self._excess(self.psi, pairs), "generator": self._excess(self.phi, pairs)}


def _taylor(function: ScalarFunction) -> tuple[float, float, float]:
    """The value of a function at zero, and its first two derivatives."""
    with torch.enable_grad():
        zero = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        value = function(zero)
        (slope,) = torch.autograd.grad(value, zero, create_graph=True)
        curvature = torch.autograd.grad(slope, zero, allow_unused=True)[0] if slope.requires_grad else None
    return value.item(), slope.item(), 0.0 if curvature is None else curvature.item()


def _checked_exp(exponent: Tensor) -> Tensor:
    value = exponent.exp()
    # Elsewhere the host would wait for the answer; there the training finds the infinite loss when it reads its log.
    at_hand = value.device.type == "cpu" and not torch.compiler.is_compiling()
    # the sum, because a mean overflows with it; NaN logits are another failure, which the loss shows by itself
    if at_hand and torch.isinf(value.sum()):
        raise OverflowError(
            f"exp({exponent.max().item():.4g}) overflows {exponent.dtype}: in the exponential loss alpha * logit may "
            f"not exceed {math.floor(math.log(torch.finfo(exponent.dtype).max))}; use a smaller alpha"
        )
    return value


def _square(center: float) -> ScalarFunction:
    return lambda u: (u - center).square()


def _convex_sqrt(u: Tensor) -> Tensor:
    """u + sqrt(u^2 + 1), written so that neither large nor small u loses digits."""
    root = torch.hypot(u, torch.ones_like(u))
    return torch.where(u < 0, 1 / (root - u.clamp(max=0)), u + root)


# name -> (phi of fake, psi of real, generator term); psi and the generator term default as in AdversarialLoss.
_LOSSES: dict[str, tuple[ScalarFunction, ScalarFunction | None, ScalarFunction | None]] = {
    # Goodfellow et al., 2014: -log sigmoid(r) - log(1 - sigmoid(f)); generator -log sigmoid(f) or log(1 - sigmoid(f)).
    "non_saturating": (F.softplus, None, None),
    "minimax": (F.softplus, None, lambda u: -F.softplus(u)),
    # Lim and Ye, 2017: max(0, 1 - r) + max(0, 1 + f); generator -f.
    "hinge": (lambda u: F.relu(1 + u), None, torch.neg),
    # Arjovsky et al., 2017: -r + f; generator -f. Qin et al. write it with the opposite sign.
    "wasserstein": (lambda u: u, None, torch.neg),
    # Mao et al., 2017, without 1/2: (r - 1)^2 + f^2; generator (f - 1)^2. Centred on 1/2: scale LS# instead.
    "least_squares": (torch.square, _square(1), _square(1)),
    # LS# of Qin et al.: (r - 1)^2 + (f + 1)^2; generator (f - 1)^2.
    "least_squares_zero_centered": (_square(-1), _square(1), _square(1)),
    # Qin et al.: -cos(r - 1) - cos(f + 1); generator -cos(f - 1).
    "cosine": (lambda u: -torch.cos(u + 1), lambda u: -torch.cos(u - 1), lambda u: -torch.cos(u - 1)),
    # Qin et al., sign turned: exp(-r) + exp(f); generator exp(-f).
    "exponential": (_checked_exp, None, None),
    # Zhou et al., 2019 (Lipschitz GANs): phi convex and increasing, psi(u) = phi(-u); generator -f.
    "lgan_linear": (lambda u: u, None, torch.neg),
    "lgan_log_sigmoid": (F.softplus, None, torch.neg),
    "lgan_sqrt": (_convex_sqrt, None, torch.neg),
    "lgan_exp": (_checked_exp, None, torch.neg),
    # (f + 1)^2 + (r - 1)^2, convex but not increasing; its code trains the generator with (f - 1)^2.
    "lgan_square": (_square(-1), None, _square(1)),
}
LOSS_NAMES = (*_LOSSES, "relativistic")


def get_loss(
    name: str, alpha: float = 1.0, weight: float = 1.0, heads: Literal["mean", "sum"] = "mean"
) -> AdversarialLoss:
    """A loss by name.

    Args:
        name: ``non_saturating, minimax, hinge, wasserstein, least_squares, least_squares_zero_centered, cosine,
            exponential, lgan_linear, lgan_log_sigmoid, lgan_sqrt, lgan_exp, lgan_square, relativistic``.
        alpha: domain scaling L(alpha * u) / alpha, in [1e-25, 1e11].
        weight: multiplies the losses of both players.
        heads: ``mean`` or ``sum`` over the heads of a critic that has several.

    Raises:
        ValueError: there is no such loss, the message lists those there are; or a number is outside its range.
    """
    if name == "relativistic":
        return RelativisticLoss(alpha=alpha, weight=weight, heads=heads)
    if name not in _LOSSES:
        raise ValueError(f"no loss named {name!r}; there are: {', '.join(LOSS_NAMES)}")
    return AdversarialLoss(*_LOSSES[name], alpha=alpha, name=name, weight=weight, heads=heads)
