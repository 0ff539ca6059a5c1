"""Consistency regularization: the critic must agree on an image and its augmented copy (CR, bCR), or on images of
neighbouring latents (zCR; ICR is bCR and zCR together). Terms are added to the loss before its one backward, like
penalties.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .augmentation import Augmentation, FlipAndShift
from .critic import Critic
from .logits import mean_logit
from .term import Term, require_weights


@dataclass(frozen=True)
class ConsistencyRegularization(Term):
    """CR (Zhang et al., ICLR 2020): weight * mean (D(x) - D(T(x)))^2 on real images.

    Args:
        weight: the coefficient that multiplies the mean; 10 as published, 5 in the GN and PGN settings.
        augmentation: T.
        points: which batches are compared; CR takes ``("real",)``.

    Raises:
        ValueError: the weight is negative or not finite.
    """

    weight: float = 10.0
    augmentation: Augmentation = field(default_factory=FlipAndShift)
    points: tuple[str, ...] = ("real",)
    name = "consistency"
    differentiates_twice = False  # no input gradient is taken

    def __post_init__(self) -> None:
        require_weights(self, "weight")

    @property
    def pairs_fakes(self) -> bool:
        return "fake" in self.points

    def __call__(
        self,
        discriminator: Critic,
        real: Tensor,
        fake: Tensor | None = None,
        *,
        real_logits: Any = None,
        fake_logits: Any = None,
        rng: torch.Generator | None = None,
        **conditioning: Any,
    ) -> Tensor:
        """The weighted term, as in ``Term``; given logits save a pass. A batch that is missing is a ValueError."""
        total = 0.0
        for name, images, logits in (("real", real, real_logits), ("fake", fake, fake_logits)):
            if name not in self.points:
                continue
            if images is None or len(images) == 0:
                raise ValueError(f"consistency on {name} images needs a non-empty {name} batch")
            plain = discriminator(images.detach(), **conditioning) if logits is None else logits
            augmented = discriminator(self.augmentation(images.detach(), rng), **conditioning)
            difference = mean_logit(plain, len(images)) - mean_logit(augmented, len(images))
            total = total + difference.square().mean()
        return self.weight * total


@dataclass(frozen=True)
class BalancedConsistencyRegularization(ConsistencyRegularization):
    """bCR (Zhao et al., AAAI 2021): CR on real and on fake images, each with the weight 10 as published."""

    points: tuple[str, ...] = ("real", "fake")


@dataclass(frozen=True)
class LatentConsistencyRegularization(Term):
    """zCR (Zhao et al., AAAI 2021): neighbouring latents look alike to the critic, and not alike at all as images.

    discriminator_weight * mean (D(G(z)) - D(G(z + dz)))^2 for the discriminator and
    -generator_weight * mean (G(z) - G(z + dz))^2 for the generator, dz ~ N(0, sigma^2). The squares are means over
    samples and pixels, as in StudioGAN. ICR is this together with ``BalancedConsistencyRegularization``.

    Args:
        discriminator_weight: 5 for small networks (from memory), 20 for BigGAN in StudioGAN.
        generator_weight: 0.5.
        sigma: standard deviation of dz, 0.05 (StudioGAN writes N(0, sigma I)).

    Raises:
        ValueError: a number is negative or not finite.
    """

    discriminator_weight: float = 5.0
    generator_weight: float = 0.5
    sigma: float = 0.05
    name = "latent_consistency"
    differentiates_twice = False  # no input gradient is taken

    def __post_init__(self) -> None:
        require_weights(self, "discriminator_weight", "generator_weight", "sigma")

    def neighbouring_noise(self, noise: Mapping[str, Tensor], rng: torch.Generator | None) -> dict[str, Tensor]:
        """The noise of ``G(z + dz)``: other latents, all else the same; a ValueError if there are no latents."""
        if "latents" not in noise:
            raise ValueError("latent consistency needs a generator with latents")
        return {**noise, "latents": self.perturb(noise["latents"], rng)}

    def __call__(
        self,
        discriminator: Critic,
        real: Tensor | None = None,
        fake: Tensor | None = None,
        *,
        neighbour: Tensor,
        real_logits: Any = None,
        fake_logits: Any = None,
        rng: torch.Generator | None = None,
        **conditioning: Any,
    ) -> Tensor:
        """The discriminator's weighted term; it needs ``fake_logits``, of G(z), and calls the critic on G(z + dz)."""
        if fake_logits is None:
            raise ValueError("latent consistency needs fake_logits, the critic's output on G(z)")
        return self.discriminator(fake_logits, discriminator(neighbour.detach(), **conditioning))

    def generator_term(self, fake_logits: Any, *, fake: Tensor, neighbour: Tensor, **conditioning: Any) -> Tensor:
        """The generator's weighted term, from G(z) and G(z + dz)."""
        return self.generator(fake, neighbour)

    def perturb(self, latents: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """z + dz, of the shape of z."""
        noise = torch.randn(latents.shape, generator=rng, device=latents.device, dtype=latents.dtype)
        return latents + self.sigma * noise

    def discriminator(self, logits: Any, perturbed_logits: Any) -> Tensor:
        """The discriminator's term, from its outputs on G(z) and G(z + dz)."""
        difference = mean_logit(logits) - mean_logit(perturbed_logits)
        return self.discriminator_weight * difference.square().mean()

    def generator(self, images: Tensor, perturbed_images: Tensor) -> Tensor:
        """The generator's term, from G(z) and G(z + dz); it falls as the images move apart."""
        return -self.generator_weight * (images - perturbed_images).square().mean()
