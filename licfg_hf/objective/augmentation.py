"""Augmentations: functions (images, rng) -> images that draw one transformation per sample on the images' device.

For consistency regularization, and for all that the critic sees where a data set is small.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .critic import plain

Padding = Literal["reflect", "zeros", "black"]
_FILLS = {"zeros": 0.0, "black": -1.0}  # in images of [-1, 1]
Augmentation = Callable[[Tensor, torch.Generator | None], Tensor]


def _uniform(images: Tensor, rng: torch.Generator | None) -> Tensor:
    """One number in [0, 1) per sample, (batch, 1, 1, 1)."""
    return torch.rand(len(images), 1, 1, 1, generator=rng, device=images.device, dtype=images.dtype)


def _require_images(images: Tensor) -> None:
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            "an augmentation takes images (batch, channels, height, width) of floating-point numbers, not "
            f"{tuple(images.shape)} {images.dtype}"
        )


def translate(images: Tensor, reach: float, rng: torch.Generator | None, padding: Padding = "zeros") -> Tensor:
    """Shifts each image by its own whole number of pixels, at most ``reach`` of its height and width.

    What comes in from outside is the ``reflect``-ed image, ``zeros`` or ``black``, which is -1.
    """
    _require_images(images)
    batch, _, height, width = images.shape
    down, right = round(height * reach), round(width * reach)
    border = (right, right, down, down)
    padded = (
        F.pad(images, border, value=_FILLS[padding]) if padding in _FILLS else F.pad(images, border, mode="reflect")
    )

    def starts(largest: int) -> Tensor:
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
        padding: what comes in from outside: ``reflect`` (StudioGAN), ``black``, which is -1 (GN, PGN), or ``zeros``,
            which is grey in images of [-1, 1].

    Raises:
        ValueError: a value is outside its range.
    """

    flip: float = 0.5
    shift: float = 0.125
    padding: Padding = "reflect"

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip is a probability, not {self.flip}")
        if not 0 <= self.shift <= 0.5:
            raise ValueError(f"shift is a share of the size in [0, 0.5], not {self.shift}")
        if self.padding not in get_args(Padding):
            raise ValueError(f"padding is one of {', '.join(get_args(Padding))}, not {self.padding!r}")

    def __call__(self, images: Tensor, rng: torch.Generator | None = None) -> Tensor:
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

    def __call__(self, images: Tensor, rng: torch.Generator | None = None) -> Tensor:
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

    def _outside_square(self, images: Tensor, rng: torch.Generator | None) -> Tensor:
        height, width = images.shape[2:]
        row = torch.arange(height, device=images.device).view(1, 1, -1, 1) - (_uniform(images, rng) * height).floor()
        column = torch.arange(width, device=images.device).view(1, 1, 1, -1) - (_uniform(images, rng) * width).floor()
        high, wide = height // 4, width // 4
        inside = (row >= -high) & (row < high) & (column >= -wide) & (column < wide)
        return (~inside).to(images.dtype)


class AugmentedCritic(nn.Module):
    """A critic that sees all its images through an augmentation: D(T(x)), for real and generated images alike.

    The gradient reaches the generator through T (Zhao, Liu, Lin, Zhu, Han, NeurIPS 2020), and a penalty is that of
    D(T(.)), so its points are the images before T. T draws from PyTorch's own random numbers.

    Args:
        critic: called as ``critic(images, **conditioning)``.
        augmentation: T.
    """

    def __init__(self, critic: nn.Module, augmentation: Augmentation):
        super().__init__()
        self.critic, self.augmentation = critic, augmentation

    def plain(self) -> "AugmentedCritic":
        """The same without DDP."""
        return AugmentedCritic(cast(nn.Module, plain(self.critic)), self.augmentation)

    def forward(self, images: Tensor, **conditioning: Any) -> Any:
        """The critic's output on augmented images (batch, channels, height, width).

        A ValueError says that the critic is given further images, which would stay as they are.
        """
        for name, value in conditioning.items():
            if isinstance(value, Tensor) and value.ndim == images.ndim:
                raise ValueError(f"an augmentation would change the images and not {name}, which belongs to them")
        return self.critic(self.augmentation(images, None), **conditioning)
