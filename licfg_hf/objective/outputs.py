"""Normalized outputs: a critic divided by a function of its own input gradient (GN, PGN).

The normalized critic is called as before and returns logits of the same form. The gradient is that of the summed
logits, so it is per-sample only where the critic does not couple samples; BatchNorm in it draws a warning.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .critic import input_gradient, require_points, twice_differentiable, usable
from .double_backward import speed_up_convolutions
from .logits import mean_logit, wide, with_mean_logit

Formula = Callable[[Tensor, Tensor], Tensor]


def gradient_normalization(value: Tensor, gradient: Tensor) -> Tensor:
    """GN (Wu et al., ICCV 2021): f / (||grad f|| + |f|), in (-1, 1) and unchanged by scaling f."""
    denominator = torch.linalg.vector_norm(gradient, dim=1) + value.abs()
    return value / denominator.clamp(min=torch.finfo(value.dtype).tiny)  # 0, not NaN, where f and its gradient vanish


def elementwise_penalty_gradient_normalization(value: Tensor, gradient: Tensor) -> Tensor:
    """PGN as published and as its code computes it: (1 - f) / (||1 - grad f|| + |1 - f|), 1 the all-ones vector."""
    flipped = 1 - value
    return flipped / (torch.linalg.vector_norm(1 - gradient, dim=1) + flipped.abs())


def norm_penalty_gradient_normalization(value: Tensor, gradient: Tensor) -> Tensor:
    """PGN as its proof differentiates it: (1 - f) / (||grad f|| + |1 - f|), which is GN of 1 - f."""
    return gradient_normalization(1 - value, gradient)


# (kind, formula) as recorded in a model's config -> the function.
FORMULAS: dict[tuple[str, str | None], Formula] = {
    ("gradient", None): gradient_normalization,
    ("penalty_gradient", "elementwise"): elementwise_penalty_gradient_normalization,
    ("penalty_gradient", "norm"): norm_penalty_gradient_normalization,
}


@dataclass(frozen=True)
class OutputNormalization:
    """fhat(x) = formula(f(x), grad f(x)), as an operation on a critic's call.

    Args:
        formula: (f (batch,), gradient (batch, d)) -> fhat (batch,).
        first_order_generator: while no parameter of the critic requires grad, as in the generator's step, treat f as
            piecewise linear: the gradient of fhat is then its derivative by f times grad f, and needs no second-order
            graph. Exact for piecewise-linear critics only (Faster GN-GAN).
    """

    formula: Formula
    first_order_generator: bool = False

    def __call__(self, network: nn.Module, critic: Callable[..., Any], sample: Tensor, *args, **kwargs) -> Any:
        """The normalized output, in the form that the critic returns; the network owns the critic's parameters.

        That of a map or of several heads is the one normalized mean logit, (batch, 1), with the features beside.
        """
        if torch.compiler.is_compiling():
            return self._traced(critic, sample, args, kwargs)
        speed_up_convolutions()
        keeps_graph = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():  # the formula needs a gradient in any case
            sample, args, kwargs = usable((require_points(sample, "critic"), args, kwargs))
            sample = sample if sample.requires_grad else sample.detach().requires_grad_()
            with twice_differentiable():
                output = critic(sample, *args, **kwargs)
            value = mean_logit(output, len(sample))
            first_order = self.first_order_generator and not any(part.requires_grad for part in network.parameters())
            gradient = wide(input_gradient(value, sample, graph=not first_order, retain=True).flatten(1))
            if first_order:
                point = value.detach().requires_grad_()
                fixed = self.formula(point, gradient)
                (slope,) = torch.autograd.grad(fixed.sum(), point)
                normalized = fixed.detach() + slope * (value - value.detach())
            else:
                normalized = self.formula(value, gradient)
        return with_mean_logit(output, normalized if keeps_graph else normalized.detach())

    def _traced(self, critic: Callable[..., Any], sample: Tensor, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The same inside a compiled function, where only ``torch.func.grad`` can be differentiated again."""

        def total(x: Tensor) -> tuple[Tensor, Any]:
            output = critic(x, *args, **kwargs)
            return mean_logit(output, len(x)).sum(), output

        with twice_differentiable():
            gradient, output = torch.func.grad(total, has_aux=True)(sample)
        normalized = self.formula(mean_logit(output, len(sample)), wide(gradient.flatten(1)))
        return with_mean_logit(output, normalized)


def warn_of_batch_norm(module: nn.Module) -> None:
    """Warns where BatchNorm makes the normalizing gradient depend on the other samples."""
    if any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules()):
        warnings.warn("BatchNorm couples the samples, so the normalizing gradient is not per-sample", stacklevel=3)


class OutputNormalized(nn.Module):
    """fhat(x) = formula(f(x), grad f(x)) for any discriminator, conditional ones too.

    Around a model of this library it can be saved: the folder then holds that model, which loads with the same logits.

    Args:
        discriminator: f; called with the images first and anything else after.
        formula: (f (batch,), gradient (batch, d)) -> fhat (batch,).
        first_order_generator: see ``OutputNormalization``.

    Raises:
        ValueError: the discriminator normalizes its output already.
    """

    def __init__(self, discriminator: nn.Module, formula: Formula, first_order_generator: bool = False):
        super().__init__()
        if getattr(discriminator, "output_normalization", None) is not None:
            raise ValueError(f"{type(discriminator).__name__} normalizes its output already")
        self.discriminator = discriminator
        self.formula = formula
        self.first_order_generator = first_order_generator
        warn_of_batch_norm(discriminator)

    def forward(self, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The normalized output, in the form that the discriminator returns."""
        normalize = OutputNormalization(self.formula, self.first_order_generator)
        return normalize(self.discriminator, self.discriminator, sample, *args, **kwargs)

    @property
    def record(self) -> dict[str, Any]:
        """The record of this normalizer in a model's config; a ValueError where the formula is the caller's own."""
        for (kind, name), formula in FORMULAS.items():
            if formula is self.formula:
                named = {} if name is None else {"formula": name}
                return {"kind": kind, **named, "first_order_generator": self.first_order_generator}
        raise ValueError(
            "a formula of your own cannot be written into a config: save the discriminator inside instead"
        )

    def require_saveable(self) -> None:
        """Raises a ValueError if the folder would not bring the network back."""
        self.record  # noqa: B018, a formula of one's own has none
        if (require := getattr(self.discriminator, "require_saveable", None)) is not None:
            require()

    def extra_repr(self) -> str:
        return f"{self.formula.__name__}, first_order_generator={self.first_order_generator}"

    @property
    def save_pretrained(self) -> Callable[..., None]:
        """Saves the model inside with this normalizer in its config; absent where that is no model."""
        save = getattr(self.discriminator, "save_normalized", None)
        if save is None:
            raise AttributeError(f"{type(self.discriminator).__name__} has no save_pretrained")
        return lambda folder, **options: save(folder, self.record, **options)


class GradientNormalized(OutputNormalized):
    """Gradient normalization: fhat = f / (||grad f|| + |f|) (Wu et al., ICCV 2021).

    ||grad fhat|| <= 1 on piecewise-linear critics, and fhat does not change when f is scaled.

    Args:
        discriminator: f, any discriminator without batch statistics.
        first_order_generator: see ``OutputNormalization``.
    """

    def __init__(self, discriminator: nn.Module, first_order_generator: bool = False):
        super().__init__(discriminator, gradient_normalization, first_order_generator)


class PenaltyGradientNormalized(OutputNormalized):
    """Penalty gradient normalization (arXiv 2306.13576), in its published form or in that of its proof.

    ``elementwise`` is the published formula and that of its public code. Its bound ||grad fhat|| <= 1 does not hold:
    for a linear f whose gradient is 0.99 in each of 3,072 coordinates and 1 - f = 0.1, ||grad fhat|| = 71. ``norm``
    is what the proof differentiates; there the bound holds on piecewise-linear critics.

    Args:
        discriminator: f, any discriminator without batch statistics.
        form: ``elementwise`` or ``norm``.
        first_order_generator: see ``OutputNormalization``.

    Raises:
        ValueError: unknown form.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        form: Literal["elementwise", "norm"] = "elementwise",
        first_order_generator: bool = False,
    ):
        formula = FORMULAS.get(("penalty_gradient", form))
        if formula is None:
            raise ValueError(f"form is elementwise or norm, not {form!r}")
        super().__init__(discriminator, formula, first_order_generator)
