"""DCGAN (Radford, Metz, Chintala, ICLR 2016) with the widths of StudioGAN's CIFAR-10 network."""

from itertools import pairwise, repeat
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from .base import Discriminator, Generator, register_model
from .blocks import initialize, norm_of_classes, run_blocks
from .heads import HeadName, make_head
from .sizes import require_positive, smallest_size, widths

_GENERATOR = {32: (64, (8, 4, 2, 1)), 64: (64, (16, 8, 4, 2, 1))}
_DISCRIMINATOR = {32: (64, (1, 2, 4, 8)), 64: (64, (1, 2, 4, 8, 16))}


class _UpBlock(nn.Module):
    """Transposed convolution, which doubles the size, norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, num_classes: int | None):
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1)
        self.norm = norm_of_classes(out_channels, num_classes)

    def forward(self, features: Tensor, condition: Tensor | None) -> Tensor:
        return torch.relu(self.norm(self.conv(features), condition))


@register_model
class DCGANGenerator(Generator):
    """Latent vectors -> images; the 32-px network (3,812,355 parameters) by default.

    Args:
        sample_size: height and width of the images in pixels; 32 and 64 have widths of their own.
        out_channels: colour channels of the images.
        latent_dim: length of the latent vector.
        num_classes: number of classes, for conditional BatchNorm; None for an unconditional generator.
        base_channels: unit of the channels; None takes 64.
        channel_multipliers: channels at each resolution from the lowest to the highest, in units of ``base_channels``.
        initialization: ``normal`` (N(0, 0.02^2)), ``orthogonal``, ``xavier`` or ``kaiming``.

    Raises:
        ValueError: there are no widths for this size and none are given.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        out_channels: int = 3,
        latent_dim: int = 128,
        num_classes: int | None = None,
        base_channels: int | None = None,
        channel_multipliers: tuple[int, ...] | None = None,
        initialization: str = "normal",
    ):
        super().__init__()
        require_positive(num_classes=num_classes, latent_dim=latent_dim)
        channels = widths(_GENERATOR, sample_size, base_channels, channel_multipliers)
        self.bottom = smallest_size(sample_size, len(channels) - 1)
        self.linear_in = nn.Linear(latent_dim, channels[0] * self.bottom**2)
        self.blocks = nn.ModuleList(_UpBlock(i, o, num_classes) for i, o in pairwise(channels))
        self.conv_out = nn.Conv2d(channels[-1], out_channels, 3, padding=1)
        initialize(self, initialization)

    def synthesize(self, latents: Tensor, class_labels: Tensor | None) -> Tensor:
        hidden = self.linear_in(latents).unflatten(1, (-1, self.bottom, self.bottom))
        return self.conv_out(run_blocks(self, hidden, repeat((class_labels,))))


def _convolution(in_channels: int, out_channels: int, stride: int, batch_norm: bool) -> list[nn.Module]:
    layers = [nn.Conv2d(in_channels, out_channels, 4 if stride == 2 else 3, stride, padding=1)]
    return [*layers, *([nn.BatchNorm2d(out_channels)] if batch_norm else []), nn.LeakyReLU(0.2)]


@register_model
class DCGANDiscriminator(Discriminator):
    """Images -> logits; the 32-px network (2,931,009 parameters) by default.

    Args:
        sample_size: height and width of the images in pixels; 32 and 64 have widths of their own.
        in_channels: colour channels of the images.
        num_classes: number of classes, for conditional heads.
        head_type: ``linear``, ``projection`` or ``auxiliary``; None takes ``projection`` where there are classes.
        base_channels: unit of the channels; None takes 64.
        channel_multipliers: channels of each block, in units of ``base_channels``; all but the last halve the size.
        batch_norm: as published; it couples the samples, so turn it off with gradient penalties and normalizers.
        initialization: as in ``DCGANGenerator``.
        normalizers: see ``Discriminator``.

    Raises:
        ValueError: there are no widths for this size and none are given.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        in_channels: int = 3,
        num_classes: int | None = None,
        head_type: HeadName | None = None,
        base_channels: int | None = None,
        channel_multipliers: tuple[int, ...] | None = None,
        batch_norm: bool = True,
        initialization: str = "normal",
        normalizers: tuple[dict[str, Any], ...] = (),
    ):
        super().__init__()
        channels = widths(_DISCRIMINATOR, sample_size, base_channels, channel_multipliers)
        smallest_size(sample_size, len(channels) - 1)
        blocks = [
            nn.Sequential(*_convolution(i, o, 1, batch_norm), *_convolution(o, o, 2, batch_norm))
            for i, o in pairwise([in_channels, *channels[:-1]])
        ]
        self.blocks = nn.ModuleList([*blocks, nn.Sequential(*_convolution(channels[-2], channels[-1], 1, batch_norm))])
        self.head = make_head(head_type, channels[-1], num_classes)
        initialize(self, initialization)
        self.add_normalizers(normalizers)

    def features(self, images: Tensor) -> Tensor:
        return run_blocks(self, images).sum((2, 3))
