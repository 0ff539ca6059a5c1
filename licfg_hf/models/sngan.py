"""SNGAN's networks (Miyato et al., ICLR 2018) as GNGAN-PyTorch and mimicry publish them: a CNN and a ResNet.

The ResNets of 32, 48, 128 and 256 px have the widths of GNGAN-PyTorch, those of 64 px the widths of mimicry.
"""

from functools import partial
from itertools import pairwise, repeat
from typing import Any, Literal

import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from .base import Discriminator, Generator, register_model
from .blocks import DiscriminatorBlock, GeneratorBlock, MakeNorm, initialize, norm_of_classes, run_blocks
from .heads import HeadName, make_head
from .sizes import halvings_of, require_positive, smallest_size, widths

Architecture = Literal["resnet", "cnn"]

# sample_size -> (base channels, multipliers), from the lowest resolution to the highest.
_GENERATORS = {
    "resnet": {
        32: (256, (1, 1, 1, 1)),
        48: (64, (8, 4, 2, 1)),
        64: (64, (16, 8, 4, 2, 1)),
        128: (64, (16, 16, 8, 4, 2, 1)),
        256: (64, (16, 16, 8, 8, 4, 2, 1)),
    },
    "cnn": {size: (64, (8, 4, 2, 1)) for size in (32, 48, 64)},
}
# sample_size -> (base channels, multipliers), one per block; and how many of the blocks halve the size.
_DISCRIMINATORS = {
    "resnet": {
        32: (128, (1, 1, 1, 1)),
        48: (64, (1, 2, 4, 8)),
        64: (64, (1, 2, 4, 8, 16)),
        128: (64, (1, 2, 4, 8, 16, 16)),
        256: (64, (1, 2, 4, 8, 8, 16, 16)),
    },
    "cnn": {size: (64, (1, 2, 4, 8)) for size in (32, 48, 64)},
}
_HALVINGS = {32: 2, 48: 4, 64: 5, 128: 5, 256: 6}
_NARROW = (64,)  # mimicry's blocks of this size have as many hidden channels as they get
_INITIALIZATION = {"resnet": "kaiming", "cnn": "normal_zero_bias"}


def _require_architecture(architecture: str) -> None:
    if architecture not in _GENERATORS:
        raise ValueError(f"architecture is resnet or cnn, not {architecture!r}")


@register_model
class SNGANGenerator(Generator):
    """Latent vectors -> images; the 32-px ResNet (4,276,739 parameters) by default.

    Args:
        sample_size: height and width of the images in pixels.
        out_channels: colour channels of the images.
        architecture: ``resnet`` or ``cnn``.
        latent_dim: length of the latent vector.
        num_classes: number of classes, for conditional BatchNorm; None for an unconditional generator.
        base_channels: unit of the channels; None takes the published number.
        channel_multipliers: channels from the lowest resolution up, in units of the base; None takes the published.
        upsample_mode: ``nearest`` (GNGAN) or ``bilinear`` (mimicry); used by ``resnet``.
        norm_eps: eps of BatchNorm.
        norm_momentum: share of a new batch in BatchNorm's running statistics.
        initialization: ``kaiming``, ``normal_zero_bias``, ``normal``, ``xavier``, ``orthogonal`` or ``wgan_gp``, see
            ``blocks.initialize``; None takes ``kaiming`` for ``resnet``, ``normal_zero_bias`` for ``cnn``.

    Raises:
        ValueError: there is no published network of this size and no multipliers are given, or a name is unknown.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        out_channels: int = 3,
        architecture: Architecture = "resnet",
        latent_dim: int = 128,
        num_classes: int | None = None,
        base_channels: int | None = None,
        channel_multipliers: tuple[int, ...] | None = None,
        upsample_mode: Literal["nearest", "bilinear"] = "nearest",
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
        initialization: str | None = None,
    ):
        super().__init__()
        _require_architecture(architecture)
        require_positive(num_classes=num_classes, latent_dim=latent_dim)
        channels = widths(_GENERATORS[architecture], sample_size, base_channels, channel_multipliers)
        self.bottom = smallest_size(sample_size, len(channels) - 1)
        self.linear_in = nn.Linear(latent_dim, channels[0] * self.bottom**2)
        make_norm = partial(norm_of_classes, num_classes=num_classes, eps=norm_eps)
        if architecture == "resnet":
            blocks = [GeneratorBlock(i, o, make_norm, upsample_mode) for i, o in pairwise(channels)]
            self.norm_out = norm_of_classes(channels[-1], None, norm_eps)
            self.conv_out = nn.Conv2d(channels[-1], out_channels, 3, padding=1)
        else:
            blocks = [TransposedBlock(i, o, make_norm) for i, o in pairwise(channels)]
            # BatchNorm before each transposed convolution: the last one stands before the image's.
            self.norm_out = make_norm(channels[-1])
            self.conv_out = nn.ConvTranspose2d(channels[-1], out_channels, 3, 1, 1)
        self.blocks = nn.ModuleList(blocks)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = norm_momentum
        initialize(self, initialization or _INITIALIZATION[architecture])

    def synthesize(self, latents: Tensor, class_labels: Tensor | None) -> Tensor:
        hidden = self.linear_in(latents).unflatten(1, (-1, self.bottom, self.bottom))
        hidden = run_blocks(self, hidden, repeat((class_labels,)))
        return self.conv_out(F.relu(self.norm_out(hidden, class_labels)))


class TransposedBlock(nn.Module):
    """norm-ReLU-transposed convolution, which doubles the size."""

    def __init__(self, in_channels: int, out_channels: int, make_norm: MakeNorm):
        super().__init__()
        self.norm = make_norm(in_channels)
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1)

    def forward(self, features: Tensor, condition: Tensor | None) -> Tensor:
        return self.conv(F.relu(self.norm(features, condition)))


@register_model
class SNGANDiscriminator(Discriminator):
    """Images -> logits; the 32-px ResNet (1,053,825 parameters) by default, without any normalizer.

    Args:
        sample_size: height and width of the images in pixels.
        in_channels: colour channels of the images.
        architecture: ``resnet`` or ``cnn``.
        num_classes: number of classes, for conditional heads.
        head_type: ``linear``, ``projection`` or ``auxiliary``; None takes ``projection`` where there are classes.
        base_channels: unit of the channels; None takes the published number.
        channel_multipliers: channels of each block, in units of the base; None takes the published ones.
        halvings: how many blocks of a ``resnet``, from the first, halve the size; None takes the published number.
        wide: whether the blocks of a ``resnet`` have as many hidden channels as they give, instead of as they get;
            None takes what is published (False for 64 px).
        pooling: ``mean`` (GNGAN) or ``sum`` (mimicry, StudioGAN) over the positions; used by ``resnet``.
        activate_shortcut: whether the ReLU that opens a block also precedes its shortcut, as in mimicry and StudioGAN,
            where it works in place; used by ``resnet``.
        strided_only: whether a ``cnn`` has nothing but one strided convolution for each entry of
            ``channel_multipliers``, as DCGAN's critic, and the head: three entries are four layers.
        initialization: as in ``SNGANGenerator``.
        normalizers: see ``Discriminator``; ``[{"kind": "spectral", "k": 1.0}]`` is SNGAN's.

    Raises:
        ValueError: there is no published network of this size and no multipliers are given, or a name is unknown.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        in_channels: int = 3,
        architecture: Architecture = "resnet",
        num_classes: int | None = None,
        head_type: HeadName | None = None,
        base_channels: int | None = None,
        channel_multipliers: tuple[int, ...] | None = None,
        halvings: int | None = None,
        wide: bool | None = None,
        pooling: Literal["mean", "sum"] = "mean",
        activate_shortcut: bool = False,
        strided_only: bool = False,
        initialization: str | None = None,
        normalizers: tuple[dict[str, Any], ...] = (),
    ):
        super().__init__()
        _require_architecture(architecture)
        if pooling not in ("mean", "sum"):
            raise ValueError(f"pooling is mean or sum, not {pooling!r}")
        channels = widths(_DISCRIMINATORS[architecture], sample_size, base_channels, channel_multipliers)
        if architecture == "resnet":
            published = sample_size if channel_multipliers is None else 0
            halvings = halvings_of(halvings, _HALVINGS.get(published), sample_size, len(channels))
            wide = published not in _NARROW if wide is None else wide
            blocks = []
            for index, (i, o) in enumerate(pairwise([in_channels, *channels])):
                hidden = o if wide or index == 0 else i
                blocks.append(DiscriminatorBlock(i, o, hidden, index < halvings, index == 0, activate_shortcut))
            features = channels[-1]
        else:
            bottom = smallest_size(sample_size, len(channels) - (not strided_only))
            if strided_only:
                blocks = [_strided(i, o) for i, o in pairwise([in_channels, *channels])]
            else:
                blocks = [nn.Sequential(nn.Conv2d(in_channels, channels[0], 3, padding=1), nn.LeakyReLU(0.1))]
                blocks += [_strided_pair(i, o) for i, o in pairwise(channels)]
            features = channels[-1] * bottom**2
        self.blocks = nn.ModuleList(blocks)
        self.head = make_head(head_type, features, num_classes)
        initialize(self, initialization or _INITIALIZATION[architecture])
        self.add_normalizers(normalizers)

    def features(self, images: Tensor) -> Tensor:
        hidden = run_blocks(self, images)
        if self.config["architecture"] == "cnn":
            return hidden.flatten(1)
        hidden = F.relu(hidden)
        return hidden.mean((2, 3)) if self.config["pooling"] == "mean" else hidden.sum((2, 3))


def _strided(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1), nn.LeakyReLU(0.1))


def _strided_pair(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        *_strided(in_channels, out_channels),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        nn.LeakyReLU(0.1),
    )
