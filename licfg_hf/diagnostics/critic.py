"""Measurements of a critic: its range, the loss's slopes there, gradients, Lipschitz constant; and of a generator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..objective.critic import Critic, input_gradient, require_points
from ..objective.logits import every_logit, mean_logit, wide
from ..objective.losses import AdversarialLoss
from ..objective.penalties import interpolate


@dataclass(frozen=True)
class LossDomain:
    """The part of the loss that a critic uses (Qin, Mitra, Wonka, ECCV 2020, Table 2).

    Attributes:
        omega: smallest and largest critic output on the real and fake batch together.
        real_slope: smallest and largest slope of the real term L' over the real outputs.
        fake_slope: the same of the fake term over the fake outputs.
        generator_slope: the same of the generator's term over the fake outputs.
    """

    omega: tuple[float, float]
    real_slope: tuple[float, float]
    fake_slope: tuple[float, float]
    generator_slope: tuple[float, float]


def _range(values: Tensor) -> tuple[float, float]:
    return values.min().item(), values.max().item()


def loss_domain(loss: AdversarialLoss, real_logits: Any, fake_logits: Any) -> LossDomain:
    """Measures which part of ``loss`` these logits use; domain scaling (alpha) is taken into account.

    The logits are outputs of the critic, as ``heads_of`` reads them; every position of every head counts.
    """
    real, fake = every_logit(real_logits).detach(), every_logit(fake_logits).detach()
    slopes = loss.slopes(real, fake)
    return LossDomain(_range(torch.cat([real, fake])), *(_range(slopes[of]) for of in ("real", "fake", "generator")))


def gradient_norms(discriminator: Critic, points: Tensor, **conditioning: Any) -> Tensor:
    """||grad_x D(x)|| of each point, (batch,), float32 or wider, without a graph."""
    points = require_points(points, "critic").detach().requires_grad_()
    with torch.enable_grad():
        gradient = input_gradient(mean_logit(discriminator(points, **conditioning), len(points)), points)
    return torch.linalg.vector_norm(wide(gradient.flatten(1)), dim=1)


def critic_statistics(
    discriminator: Critic, real: Tensor, fake: Tensor, rng: torch.Generator | None = None, **conditioning: Any
) -> dict[str, float]:
    """Gradient norms on real, fake and interpolated points, for logs: three forward and backward passes, no graph.

    Returns:
        ``gradient_norm/{real,fake,interpolate}/{mean,q10,q50,q90,max}``: not only the mean, because a critic can be
        flat almost everywhere and steep at a few points.
    """
    places = {"real": real, "fake": fake, "interpolate": interpolate(real.detach(), fake.detach(), rng=rng)}
    found: dict[str, float] = {}
    for name, points in places.items():
        norms = gradient_norms(discriminator, points, **conditioning)
        levels = torch.tensor([0.1, 0.5, 0.9, 1.0], dtype=norms.dtype, device=norms.device)
        values = [norms.mean().item(), *torch.quantile(norms, levels).tolist()]
        labels = ("mean", "q10", "q50", "q90", "max")
        found |= {f"gradient_norm/{name}/{label}": value for label, value in zip(labels, values, strict=True)}
    return found


def lipschitz_lower_bound(
    discriminator: Critic,
    points: Tensor,
    steps: int = 20,
    rate: float = 0.05,
    rng: torch.Generator | None = None,
    **conditioning: Any,
) -> float:
    """A lower bound of the Lipschitz constant: the steepest secant |D(x) - D(y)| / ||x - y|| that ascent finds.

    Every secant bounds the constant from below, and it can be climbed on piecewise-linear critics, whose gradient norm
    is piecewise constant. The start is y = x + rate * random direction, by ``rng``.

    Args:
        points: x to start from, (batch, ...).
        steps: steps of gradient ascent (Adam) on both ends.
        rate: step size, in units of the input.
    """

    def value(at: Tensor) -> Tensor:
        return mean_logit(discriminator(at, **conditioning), len(at))

    noise = torch.randn(points.shape, generator=rng, device=points.device, dtype=points.dtype)
    near = points.detach().clone().requires_grad_()
    far = (points.detach() + rate * noise).requires_grad_()
    ascent = torch.optim.Adam([near, far], lr=rate, maximize=True)
    best = 0.0
    with torch.enable_grad():
        for _ in range(steps + 1):
            distance = torch.linalg.vector_norm((near - far).flatten(1), dim=1)
            slopes = (value(near) - value(far)).abs() / distance.clamp(min=0.1 * rate)  # rounding decides shorter ones
            best = max(best, slopes.max().item())
            near.grad, far.grad = torch.autograd.grad(slopes.sum(), [near, far])
            ascent.step()
    return best


@torch.no_grad()
def memorization_gap(
    discriminator: Critic,
    train: Tensor,
    held_out: Tensor,
    train_conditioning: dict[str, Any] | None = None,
    held_out_conditioning: dict[str, Any] | None = None,
) -> float:
    """mean D(train) - mean D(held out): above zero, the critic knows its training images by heart.

    The ``conditioning`` is further keyword arguments of the critic for the one and the other.
    """
    known = mean_logit(discriminator(train, **(train_conditioning or {})))
    unknown = mean_logit(discriminator(held_out, **(held_out_conditioning or {})))
    return (known.mean() - unknown.mean()).item()


def latent_neighbourhood_size(
    generator: Callable[[Tensor], Any],
    latents: Tensor,
    delta: float = 1.0,
    iterations: int = 10,
    rng: torch.Generator | None = None,
) -> Tensor:
    """Radius of the latents that give almost the same image, to first order: delta / sigma_max(dG/dz).

    **This definition is ours.** The Li-CFG paper (arXiv 2501.11236) claims that a critic with larger gradients makes
    the "latent N-size" smaller; its formal definition could not be read. Here it is r(z) = sup {r: ||G(z + r u) -
    G(z)|| <= delta for every unit u}, linearized at z. sigma_max comes from power iteration on the Jacobian, from
    directions by ``rng``.

    Args:
        generator: latents (batch, latent_dim) -> images, or an object with ``sample``.
        latents: z, (batch, latent_dim).
        delta: the change of an image, in its Euclidean norm, that counts as none.

    Returns:
        Radii (batch,); infinite where the image does not depend on the latent.
    """

    def images(z: Tensor) -> Tensor:
        output = generator(z)
        return getattr(output, "sample", output).flatten(1)

    latents = latents.detach()
    direction = torch.randn(latents.shape, generator=rng, device=latents.device, dtype=latents.dtype)
    for _ in range(iterations):
        direction = torch.nn.functional.normalize(direction, dim=1)
        pushed = torch.func.jvp(images, (latents,), (direction,))[1]
        pull = torch.func.vjp(images, latents)[1]
        (direction,) = pull(pushed.detach())  # J^T J u, sample by sample
    sigma = torch.linalg.vector_norm(direction, dim=1).sqrt()  # ||J^T J u|| tends to sigma^2
    return delta / sigma
