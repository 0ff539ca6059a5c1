"""Consistency regularization: the critic must agree on an image and its augmented copy (CR, bCR), or on images of
neighbouring latents (zCR; ICR is bCR and zCR together). Terms are added to the loss before its one backward, like
penalties. And differentiable augmentation, for small data sets.

Augmentations are functions (images, rng) -> images that draw one transformation per sample on the images' device.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F

from .critic import flat_logits

Augmentation = Callable[[torch.Tensor, torch.Generator | None], torch.Tensor]


def _uniform(images: torch.Tensor, rng: torch.Generator | None) -> torch.Tensor:
    """One number in [0, 1) per sample, (batch, 1, 1, 1)."""
    return torch.rand(len(images), 1, 1, 1, generator=rng, device=images.device, dtype=images.dtype)


def _require_images(images: torch.Tensor) -> None:
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            "an augmentation takes images (batch, channels, height, width) of floating-point numbers, not "
            f"{tuple(images.shape)} {images.dtype}"
        )


def translate(
    images: torch.Tensor, reach: float, rng: torch.Generator | None, padding: Literal["zeros", "reflect"] = "zeros"
) -> torch.Tensor:
    """Shifts each image by its own whole number of pixels.

    Args:
        images: (batch, channels, height, width).
        reach: largest shift, as a share of height and width.
        rng: random generator.
        padding: what comes in from outside: ``zeros`` or the ``reflect``-ed image.
    """
    _require_images(images)
    batch, _, height, width = images.shape
    down, right = round(height * reach), round(width * reach)
    padded = F.pad(images, (right, right, down, down), mode="constant" if padding == "zeros" else "reflect")

    def starts(largest: int) -> torch.Tensor:
        return torch.randint(2 * largest + 1, (batch, 1), generator=rng, device=images.device)

    rows = starts(down) + torch.arange(height, device=images.device)
    columns = starts(right) + torch.arange(width, device=images.device)
    samples = torch.arange(batch, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[samples, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@dataclass(frozen=True)
class FlipAndShift:
    """Mirrors and shifts each image: the augmentation of CR.

    Args:
        flip: probability of mirroring.
        shift: largest shift as a share of height and width: 1/8 in StudioGAN, 0.2 in the GN and PGN code.
        padding: ``reflect`` (StudioGAN) or ``zeros`` (GN, PGN).

    Raises:
        ValueError: a value is outside its range.
    """

    flip: float = 0.5
    shift: float = 0.125
    padding: Literal["zeros", "reflect"] = "reflect"

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip is a probability, not {self.flip}")
        if not 0 <= self.shift <= 0.5:
            raise ValueError(f"shift is a share of the size in [0, 0.5], not {self.shift}")
        if self.padding not in ("zeros", "reflect"):
            raise ValueError(f"padding is zeros or reflect, not {self.padding!r}")

    def __call__(self, images: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        _require_images(images)
        mirrored = torch.where(_uniform(images, rng) < self.flip, images.flip(3), images)
        return translate(mirrored, self.shift, rng, self.padding)


@dataclass(frozen=True)
class DifferentiableAugmentation:
    """Colour, translation and cutout, differentiable in the images (DiffAugment; Zhao et al., NeurIPS 2020).

    Applied to everything the critic sees, real and fake, in both players' steps.

    Args:
        policy: any of ``color`` (brightness, saturation, contrast), ``translation`` (1/8), ``cutout`` (a square of
            half the side).

    Raises:
        ValueError: unknown policy.
    """

    policy: Sequence[Literal["color", "translation", "cutout"]] = ("color", "translation", "cutout")

    def __post_init__(self) -> None:
        unknown = set(self.policy) - {"color", "translation", "cutout"}
        if unknown:
            raise ValueError(f"policy is made of color, translation and cutout, not {', '.join(sorted(unknown))}")

    def __call__(self, images: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        _require_images(images)
        if "color" in self.policy:
            images = images + (_uniform(images, rng) - 0.5)
            grey = images.mean(dim=1, keepdim=True)
            images = grey + (images - grey) * (2 * _uniform(images, rng))
            mean = images.mean(dim=(1, 2, 3), keepdim=True)
            images = mean + (images - mean) * (0.5 + _uniform(images, rng))
        if "translation" in self.policy:
            images = translate(images, 1 / 8, rng)
        if "cutout" in self.policy:
            images = images * self._outside_square(images, rng)
        return images

    def _outside_square(self, images: torch.Tensor, rng: torch.Generator | None) -> torch.Tensor:
        height, width = images.shape[2:]
        row = torch.arange(height, device=images.device).view(1, 1, -1, 1) - (_uniform(images, rng) * height).floor()
        column = torch.arange(width, device=images.device).view(1, 1, 1, -1) - (_uniform(images, rng) * width).floor()
        half_height, half_width = height // 4, width // 4
        inside = (row >= -half_height) & (row < half_height) & (column >= -half_width) & (column < half_width)
        return (~inside).to(images.dtype)


@dataclass(frozen=True)
class ConsistencyRegularization:
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
    shareable = ()
    method = "none"  # no input gradient is taken

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"weight is a finite number >= 0, not {self.weight}")

    def __call__(
        self,
        discriminator: Callable[..., Any],
        real: torch.Tensor,
        fake: torch.Tensor | None = None,
        *,
        real_logits: Any = None,
        fake_logits: Any = None,
        rng: torch.Generator | None = None,
        **conditioning: Any,
    ) -> torch.Tensor:
        """The weighted term, a scalar.

        Args:
            discriminator: the critic; called as ``discriminator(images, **conditioning)``.
            real: (batch, channels, height, width).
            fake: likewise, where fakes are compared.
            real_logits: the critic's output on ``real``, if the caller has it: saves a forward pass.
            fake_logits: the same for ``fake``.
            rng: random generator of the augmentation.
            conditioning: further keyword arguments of the critic, with the batch of ``real``.

        Raises:
            ValueError: a batch is missing or empty.
        """
        total = 0.0
        for name, images, logits in (("real", real, real_logits), ("fake", fake, fake_logits)):
            if name not in self.points:
                continue
            if images is None or len(images) == 0:
                raise ValueError(f"consistency on {name} images needs a non-empty {name} batch")
            plain = discriminator(images.detach(), **conditioning) if logits is None else logits
            augmented = discriminator(self.augmentation(images.detach(), rng), **conditioning)
            difference = flat_logits(plain, len(images)) - flat_logits(augmented, len(images))
            total = total + difference.square().mean()
        return self.weight * total


@dataclass(frozen=True)
class BalancedConsistencyRegularization(ConsistencyRegularization):
    """bCR (Zhao et al., AAAI 2021): CR on real and on fake images, each with the weight 10 as published."""

    points: tuple[str, ...] = ("real", "fake")


@dataclass(frozen=True)
class LatentConsistencyRegularization:
    """zCR (Zhao et al., AAAI 2021): neighbouring latents should look alike to the critic, and not alike at all as
    images.

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

    def __post_init__(self) -> None:
        for name in ("discriminator_weight", "generator_weight", "sigma"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is a finite number >= 0, not {value}")

    def perturb(self, latents: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        """z + dz, of the shape of z."""
        noise = torch.randn(latents.shape, generator=rng, device=latents.device, dtype=latents.dtype)
        return latents + self.sigma * noise

    def discriminator(self, logits: Any, perturbed_logits: Any) -> torch.Tensor:
        """The discriminator's term, from its outputs on G(z) and G(z + dz)."""
        difference = flat_logits(logits) - flat_logits(perturbed_logits)
        return self.discriminator_weight * difference.square().mean()

    def generator(self, images: torch.Tensor, perturbed_images: torch.Tensor) -> torch.Tensor:
        """The generator's term, from G(z) and G(z + dz); it falls as the images move apart."""
        return -self.generator_weight * (images - perturbed_images).square().mean()
