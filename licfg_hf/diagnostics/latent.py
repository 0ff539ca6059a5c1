"""The distance from a latent within which the picture hardly changes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


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
