"""How strong a penalty is: what it costs the critic, beside what the critic gains.

    rho = w P / (w P + max(0, L0 - L))

w P is the weighted penalty, L the critic's adversarial loss and L0 that loss at D = 0, where the critic knows nothing.
rho is a number in [0, 1] without a unit: near 0 the penalty does nothing, 1/3 is where it rules a loss that is still
linear, and 1 is a critic at chance. It grows with w, and is the same on images of another scale where w is scaled
along. It says how strong a penalty is, not which strength is best.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .logits import heads_of
from .losses import AdversarialLoss

_REACH = (0.5, 2.0, 8.0)  # logits, in units of the loss's domain, between which a loss that is not linear bends


def strength(penalty: Tensor, loss: Tensor, at_chance: Tensor) -> Tensor:
    """rho in [0, 1] of a penalty, of any shape; 0 where the critic neither pays nor gains.

    Args:
        penalty: value w P of the weighted penalty, without the interval of a lazy one; below 0 it counts as 0.
        loss: the critic's adversarial loss L, without its penalties.
        at_chance: L0 of ``loss_at_chance``.
    """
    return share(penalty, at_chance - loss)


def share(cost: Tensor, gain: Tensor) -> Tensor:
    """cost / (cost + gain), both at least 0, in [0, 1]; 0 where there is neither."""
    cost, total = cost.clamp(min=0), cost.clamp(min=0) + gain.clamp(min=0)
    return torch.where(total == 0, 0, cost / total)


def loss_at_chance(loss: AdversarialLoss, real_logits: Any, fake_logits: Any) -> Tensor:
    """The critic's adversarial loss L0 at D = 0, a scalar: ``discriminator`` of any loss, called with zeros.

    2 ln 2 for non-saturating, 2 for hinge, ln 2 for relativistic; of several heads the mean or the sum.

    Args:
        loss: the loss, or one of your own that has ``discriminator(real_logits, fake_logits)``.
        real_logits: the critic's output on real points, for batch, positions, heads and type alone.
        fake_logits: the same for generated points.
    """
    with torch.no_grad():
        return loss.discriminator(_mapped(real_logits, torch.zeros_like), _mapped(fake_logits, torch.zeros_like))


@torch.no_grad()
def gain_over_chance(loss: AdversarialLoss, real_logits: Any, fake_logits: Any) -> Tensor:
    """L0 - L, a scalar: what the critic gains over D = 0; arguments as in ``loss_at_chance``.

    In float64 where the device has it: under a small domain scaling, L0 / alpha would drown the difference.
    """
    real, fake = _mapped(real_logits, _exact), _mapped(fake_logits, _exact)
    return loss_at_chance(loss, real, fake) - loss.discriminator(real, fake)


def _exact(logits: Tensor) -> Tensor:
    return logits.detach().to(precise(logits.device))


def precise(device: torch.device) -> torch.dtype:
    """float64 on the CPU and on CUDA, else float32: not every other device has float64."""
    return torch.float64 if device.type in ("cpu", "cuda") else torch.float32


def _mapped(output: Any, function: Callable[[Tensor], Tensor]) -> Tensor | list[Tensor]:
    """A function of the logits of each head, in a form that ``heads_of`` reads: (batch, 1, positions) each."""
    heads = [function(head).unflatten(1, (1, -1)) for head in heads_of(output)]
    return heads[0] if len(heads) == 1 else heads


def require_measurable(loss: AdversarialLoss) -> None:
    """Refuses a loss under which rho says nothing of a penalty's weight.

    Raises:
        ValueError: the loss is linear, so that rho is 1/3 at any weight; or a constant critic gains by it, so that
            D = 0 is not chance.
    """
    scale = 1 / getattr(loss, "alpha", 1.0)

    def at(logit: Tensor, sign: float) -> Tensor:
        return loss.discriminator(scale * logit, sign * scale * logit) / scale

    zero = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        (drift,) = torch.autograd.grad(at(zero, 1.0), zero, allow_unused=True)
    if drift is not None and drift.abs() > 1e-9:
        raise ValueError(
            f"a strength is measured from a critic that is 0 everywhere, and the {_named(loss)} loss is centred on "
            "another value: take least_squares_zero_centered in place of least_squares"
        )
    start = at(zero.detach(), -1.0)
    gains = torch.stack([(start - at(torch.full_like(zero, reach).detach(), -1.0)) / reach for reach in _REACH])
    if (gains - gains[0]).abs().max() <= 1e-9 * gains.abs().max():
        raise ValueError(
            f"the {_named(loss)} loss is linear, so that a penalty's strength rho is 1/3 at every weight: give the "
            "penalty a weight, without a target"
        )


def _named(loss: AdversarialLoss) -> str:
    return getattr(loss, "name", type(loss).__name__).replace("_", " ")
