"""DCGAN (Radford, Metz, Chintala, ICLR 2016) in two forms: StudioGAN's for CIFAR-10, and that of CFG and Li-CFG."""

from itertools import pairwise, repeat
from typing import Any, Literal

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from .base import Discriminator, Generator, register_model
from .blocks import initialize, norm_of_classes, run_blocks
from .heads import HeadName, make_head
from .sizes import require_positive, smallest_size, widths

# CFG's networks are those of riejohnson/cfg-gan-pt (there DCGANx) and of Li-CFG's code, which has the same.
Architecture = Literal["studiogan", "cfg"]

_GENERATORS = {
    "studiogan": {32: (64, (8, 4, 2, 1)), 64: (64, (16, 8, 4, 2, 1))},
    "cfg": {32: (64, (16, 8, 4)), 64: (64, (32, 16, 8, 4))},
}
_DISCRIMINATORS = {
    "studiogan": {32: (64, (1, 2, 4, 8)), 64: (64, (1, 2, 4, 8, 16))},
    "cfg": {32: (64, (1, 2, 4)), 64: (64, (1, 2, 4, 8))},
}
_INITIALIZATION = {"studiogan": "normal", "cfg": "cfg"}


def _require_architecture(architecture: str) -> None:
    if architecture not in _GENERATORS:
        raise ValueError(f"architecture is studiogan or cfg, not {architecture!r}")


def _doubling(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    """CFG's transposed convolution, which doubles the size."""
    return nn.ConvTranspose2d(in_channels, out_channels, 5, stride=2, padding=2, output_padding=1)


class _UpBlock(nn.Module):
    """Transposed convolution, which doubles the size, norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, num_classes: int | None):
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1)
        self.norm = norm_of_classes(out_channels, num_classes)

    def forward(self, features: Tensor, condition: Tensor | None) -> Tensor:
        return torch.relu(self.norm(self.conv(features), condition))


class _CFGUpBlock(nn.Module):
    """ReLU, transposed convolution, which doubles the size, norm, ReLU, convolution of single pixels, norm."""

    def __init__(self, in_channels: int, out_channels: int, num_classes: int | None):
        super().__init__()
        self.conv1 = _doubling(in_channels, out_channels)
        self.norm1 = norm_of_classes(out_channels, num_classes)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 1)
        self.norm2 = norm_of_classes(out_channels, num_classes)

    def forward(self, features: Tensor, condition: Tensor | None) -> Tensor:
        hidden = torch.relu(self.norm1(self.conv1(torch.relu(features)), condition))
        return self.norm2(self.conv2(hidden), condition)


@register_model
class DCGANGenerator(Generator):
    """Latent vectors -> images; StudioGAN's network for 32 px (3,812,355 parameters) by default.

    Args:
        sample_size: height and width of the images in pixels; 32 and 64 have widths of their own.
        out_channels: colour channels of the images.
        latent_dim: length of the latent vector.
        num_classes: number of classes, for conditional BatchNorm; None for an unconditional generator.
        base_channels: unit of the channels; None takes 64.
        channel_multipliers: channels at each resolution from the lowest to the highest, in units of ``base_channels``;
            those of ``cfg`` end one doubling before the image.
        architecture: ``studiogan``, or ``cfg``, the network of CFG and Li-CFG, with kernels of 5 and of 1 in each
            block.
        initialization: a name of ``blocks.initialize``; None takes ``normal`` (N(0, 0.02^2)) for ``studiogan``, and
            ``cfg`` for ``cfg``.

    Raises:
        ValueError: there are no widths for this size and none are given, or a name is unknown.
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
        architecture: Architecture = "studiogan",
        initialization: str | None = None,
    ):
        super().__init__()
        _require_architecture(architecture)
        require_positive(num_classes=num_classes, latent_dim=latent_dim)
        channels = widths(_GENERATORS[architecture], sample_size, base_channels, channel_multipliers)
        doublings = len(channels) - (architecture == "studiogan")
        self.bottom = smallest_size(sample_size, doublings)
        self.linear_in = nn.Linear(latent_dim, channels[0] * self.bottom**2)
        block = _UpBlock if architecture == "studiogan" else _CFGUpBlock
        self.blocks = nn.ModuleList(block(i, o, num_classes) for i, o in pairwise(channels))
        if architecture == "studiogan":
            self.conv_out = nn.Conv2d(channels[-1], out_channels, 3, padding=1)
        else:
            self.conv_out = nn.Sequential(nn.ReLU(), _doubling(channels[-1], out_channels))
        initialize(self, initialization or _INITIALIZATION[architecture])

    def synthesize(self, latents: Tensor, class_labels: Tensor | None) -> Tensor:
        hidden = self.linear_in(latents).unflatten(1, (-1, self.bottom, self.bottom))
        return self.conv_out(run_blocks(self, hidden, repeat((class_labels,))))


def _convolution(in_channels: int, out_channels: int, stride: int, batch_norm: bool) -> list[nn.Module]:
    layers = [nn.Conv2d(in_channels, out_channels, 4 if stride == 2 else 3, stride, padding=1)]
    return [*layers, *([nn.BatchNorm2d(out_channels)] if batch_norm else []), nn.LeakyReLU(0.2)]


def _cfg_block(in_channels: int, out_channels: int, batch_norm: bool) -> nn.Sequential:
    """A convolution that halves the size, and one of single pixels; the published ones do not use their biases."""
    halving = nn.Conv2d(in_channels, out_channels, 5, stride=2, padding=2, bias=False)
    layers: list[nn.Module] = []
    for convolution in (halving, nn.Conv2d(out_channels, out_channels, 1, bias=False)):
        layers += [convolution, *([nn.BatchNorm2d(out_channels)] if batch_norm else []), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers)


@register_model
class DCGANDiscriminator(Discriminator):
    """Images -> logits; StudioGAN's network for 32 px (2,931,009 parameters) by default.

    Args:
        sample_size: height and width of the images in pixels; 32 and 64 have widths of their own.
        in_channels: colour channels of the images.
        num_classes: number of classes, for conditional heads.
        head_type: ``linear``, ``projection`` or ``auxiliary``; None takes ``projection`` where there are classes.
        base_channels: unit of the channels; None takes 64.
        channel_multipliers: channels of each block, in units of ``base_channels``; all but the last block of
            ``studiogan``, and all of ``cfg``, halve the size.
        batch_norm: as published; it couples the samples, so turn it off with gradient penalties and normalizers.
        architecture: as in ``DCGANGenerator``; ``cfg`` has a head on all positions, ``studiogan`` on their sum.
        initialization: as in ``DCGANGenerator``.
        normalizers: see ``Discriminator``.

    Raises:
        ValueError: there are no widths for this size and none are given, or a name is unknown.
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
        architecture: Architecture = "studiogan",
        initialization: str | None = None,
        normalizers: tuple[dict[str, Any], ...] = (),
    ):
        super().__init__()
        _require_architecture(architecture)
        channels = widths(_DISCRIMINATORS[architecture], sample_size, base_channels, channel_multipliers)
        if architecture == "studiogan":
            smallest_size(sample_size, len(channels) - 1)
            blocks = [
                nn.Sequential(*_convolution(i, o, 1, batch_norm), *_convolution(o, o, 2, batch_norm))
                for i, o in pairwise([in_channels, *channels[:-1]])
            ]
            blocks.append(nn.Sequential(*_convolution(channels[-2], channels[-1], 1, batch_norm)))
            features = channels[-1]
        else:
            first = nn.Conv2d(in_channels, channels[0], 5, stride=2, padding=2)
            blocks = [nn.Sequential(first, nn.LeakyReLU(0.2))]
            blocks += [_cfg_block(i, o, batch_norm) for i, o in pairwise(channels)]
            features = channels[-1] * smallest_size(sample_size, len(channels)) ** 2
        self.blocks = nn.ModuleList(blocks)
        self.head = make_head(head_type, features, num_classes)
        initialize(self, initialization or _INITIALIZATION[architecture])
        self.add_normalizers(normalizers)

    def features(self, images: Tensor) -> Tensor:
        hidden = run_blocks(self, images)
        return hidden.flatten(1) if self.config["architecture"] == "cfg" else hidden.sum((2, 3))
