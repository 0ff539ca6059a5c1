"""BigGAN-deep (Brock, Donahue, Simonyan, ICLR 2019): ajbrock's networks, and the released generator with its tables.

The released weights (DeepMind's TF Hub module, ported by pytorch-pretrained-BigGAN) carry BatchNorm statistics for 51
truncations in tables; ``variant="truncation_table"`` is that generator.
"""

import math
from itertools import pairwise, repeat
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from .base import Discriminator, Generator, GeneratorOutput, register_model
from .biggan import SPECTRAL, spectral_normalize_generator
from .blocks import (
    BatchNorm,
    ConditionalBatchNorm,
    MakeNorm,
    SelfAttention,
    UpsampledConv,
    initialize,
    run_blocks,
    upsample,
)
from .heads import HeadName, embed_labels, make_head
from .sizes import attention_places, halvings_of, require_positive, smallest_size, widths

# sample_size -> (base channels, multipliers) from the lowest resolution to the highest.
_GENERATOR = {
    64: (128, (16, 16, 8, 4, 2)),
    128: (128, (16, 16, 8, 4, 2, 1)),
    256: (128, (16, 16, 8, 8, 4, 2, 1)),
    512: (128, (16, 16, 8, 8, 4, 2, 1, 1)),
}
# sample_size -> (base channels, multipliers) of the input and of each pair of blocks, every pair halving the size.
_DISCRIMINATOR = {
    64: (128, (1, 2, 4, 8, 16)),
    128: (128, (1, 2, 4, 8, 16, 16)),
    256: (128, (1, 2, 4, 8, 8, 16, 16)),
}
_STATISTICS = 51  # truncations 0, 0.02, ..., 1


class StatisticsTable(nn.Module):
    """Normalizes with the mean and variance that belong to a truncation; training does not change the table.

    Args:
        reference_quirks: interpolate as pytorch-pretrained-BigGAN does: the weights of the two rows are swapped, and
            the row is found in floating point, so that for example 0.14 takes the row of 0.16. False interpolates
            linearly between the neighbouring rows.
    """

    running_means: Tensor
    running_vars: Tensor

    def __init__(self, channels: int, eps: float, reference_quirks: bool):
        super().__init__()
        self.eps, self.reference_quirks = eps, reference_quirks
        self.register_buffer("running_means", torch.zeros(_STATISTICS, channels))
        self.register_buffer("running_vars", torch.ones(_STATISTICS, channels))

    def _rows(self, truncation: float) -> tuple[int, int, float]:
        """(lower row, upper row, weight of the lower one)."""
        last = _STATISTICS - 1
        if self.reference_quirks:
            share, row = math.modf(truncation / (1 / last))
            return int(row), min(int(row) + 1, last), share if share else 1.0
        position = round(truncation * last, 9)
        row = min(int(position), last)
        return row, min(row + 1, last), 1 - (position - row)

    def forward(self, features: Tensor, truncation: float) -> Tensor:
        """Features (batch, channels, height, width), normalized for a truncation in (0, 1]."""
        lower, upper, weight = self._rows(truncation)

        def row(table: Tensor) -> Tensor:
            mixed = table[lower] * weight + table[upper] * (1 - weight)
            return (table[lower] if weight == 1 else mixed)[None, :, None, None]

        return (features - row(self.running_means)) * torch.rsqrt(row(self.running_vars) + self.eps)


class AffineTableNorm(nn.Module):
    """``StatisticsTable`` with one scale and shift per channel."""

    def __init__(self, channels: int, eps: float, reference_quirks: bool):
        super().__init__()
        self.norm = StatisticsTable(channels, eps, reference_quirks)
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor, truncation: float) -> Tensor:
        return self.weight[:, None, None] * self.norm(features, truncation) + self.bias[:, None, None]


class DeepGeneratorBlock(nn.Module):
    """Bottleneck of four convolutions; the skip keeps the first ``out_channels`` of at least as many."""

    def __init__(self, in_channels: int, out_channels: int, make_norm: MakeNorm, upsamples: bool):
        super().__init__()
        self.out_channels, self.upsamples = out_channels, upsamples
        hidden = in_channels // 4
        self.norm1, self.conv1 = make_norm(in_channels), nn.Conv2d(in_channels, hidden, 1)
        self.norm2 = make_norm(hidden)
        self.conv2 = UpsampledConv(hidden, hidden) if upsamples else nn.Conv2d(hidden, hidden, 3, padding=1)
        self.norm3, self.conv3 = make_norm(hidden), nn.Conv2d(hidden, hidden, 3, padding=1)
        self.norm4, self.conv4 = make_norm(hidden), nn.Conv2d(hidden, out_channels, 1)

    def forward(self, features: Tensor, *condition: Any) -> Tensor:
        hidden = self.conv1(F.relu(self.norm1(features, *condition)))
        hidden = F.relu(self.norm2(hidden, *condition))
        skip = features[:, : self.out_channels]
        if self.upsamples:
            skip = upsample(skip, "nearest")
        hidden = self.conv3(F.relu(self.norm3(self.conv2(hidden), *condition)))
        return self.conv4(F.relu(self.norm4(hidden, *condition))) + skip


@register_model
class BigGANDeepGenerator(Generator):
    """Latents and classes -> images; the published 128-px network with 128 base channels (50,244,484) by default.

    Args:
        sample_size: height and width of the images in pixels; 64 to 256 are published for ``standard``, 128 to 512 for
            ``truncation_table``.
        out_channels: colour channels of the images.
        num_classes: number of classes.
        latent_dim: length of the latent vector.
        shared_dim: length of the class embedding.
        base_channels: unit of the channels; None takes the published number.
        channel_multipliers: channels from the lowest resolution up, in units of the base; None takes the published.
        attention_resolutions: resolutions in pixels after which self-attention follows.
        variant: ``standard`` (BatchNorm) or ``truncation_table`` (statistics from tables, by truncation).
        reference_quirks: how tables are interpolated, see ``StatisticsTable``.
        spectral_norm: whether convolutions and linear layers are spectrally normalized.
        norm_eps: eps of the normalizations; None takes 1e-5 for ``standard`` and 1e-4 for ``truncation_table``.
        initialization: ``orthogonal``, ``normal`` or ``xavier``.

    Raises:
        ValueError: there is no published network of this size and no multipliers are given, or a name is unknown.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        sample_size: int = 128,
        out_channels: int = 3,
        num_classes: int = 1000,
        latent_dim: int = 128,
        shared_dim: int = 128,
        base_channels: int | None = None,
        channel_multipliers: tuple[int, ...] | None = None,
        attention_resolutions: tuple[int, ...] = (64,),
        variant: Literal["standard", "truncation_table"] = "standard",
        reference_quirks: bool = False,
        spectral_norm: bool = True,
        norm_eps: float | None = None,
        initialization: str = "orthogonal",
    ):
        super().__init__()
        if variant not in ("standard", "truncation_table"):
            raise ValueError(f"variant is standard or truncation_table, not {variant!r}")
        require_positive(num_classes=num_classes, latent_dim=latent_dim, shared_dim=shared_dim, norm_eps=norm_eps)
        channels = widths(_GENERATOR, sample_size, base_channels, channel_multipliers)
        self.bottom = smallest_size(sample_size, len(channels) - 1)
        self.uses_tables = variant == "truncation_table"
        condition_dim = shared_dim + latent_dim
        eps = norm_eps or (1e-4 if self.uses_tables else 1e-5)

        def make_norm(width: int) -> nn.Module:
            table = StatisticsTable(width, eps, reference_quirks) if self.uses_tables else None
            return ConditionalBatchNorm(width, condition_dim, eps=eps, norm=table)

        self.class_embedding = nn.Embedding(num_classes, shared_dim)
        self.linear_in = nn.Linear(condition_dim, channels[0] * self.bottom**2)
        # Two blocks per resolution, of which the second doubles the size.
        plan = [step for i, o in pairwise(channels) for step in ((i, i, False), (i, o, True))]
        self.blocks = nn.ModuleList(DeepGeneratorBlock(i, o, make_norm, up) for i, o, up in plan)
        sizes = [self.bottom * 2 ** ((index + 1) // 2) for index in range(len(plan))]
        places = [index for index in attention_places(sizes, attention_resolutions) if plan[index][2]]
        self.attentions = nn.ModuleDict({str(index): SelfAttention(plan[index][1]) for index in places})
        # The released generator computes as many channels as the last block has and keeps the first ones.
        if self.uses_tables:
            self.norm_out = AffineTableNorm(channels[-1], eps, reference_quirks)
            self.conv_out = nn.Conv2d(channels[-1], channels[-1], 3, padding=1)
        else:
            self.norm_out = BatchNorm(channels[-1], eps=eps)
            self.conv_out = nn.Conv2d(channels[-1], out_channels, 3, padding=1)
        initialize(self, initialization)
        if spectral_norm:
            spectral_normalize_generator(self)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride], the truncation stands third, as it always did
        self, latents: Tensor, class_labels: Tensor | None = None, truncation: float = 1.0, return_dict: bool = True
    ) -> GeneratorOutput | tuple[Tensor]:
        """As in ``Generator``, for latents that are already multiplied by the truncation.

        The truncation, in (0, 1] or else a ValueError, selects the statistics of ``truncation_table``.
        """
        if not 0 < truncation <= 1:
            raise ValueError(f"truncation is in (0, 1], not {truncation}")
        return self._output(latents, class_labels, return_dict, truncation=truncation)

    def synthesize(self, latents: Tensor, class_labels: Tensor, truncation: float) -> Tensor:
        vector = torch.cat([embed_labels(self.class_embedding, class_labels), latents], dim=1)
        statistics = (truncation,) if self.uses_tables else ()
        hidden = self.linear_in(vector).unflatten(1, (-1, self.bottom, self.bottom))
        hidden = run_blocks(self, hidden, repeat((vector, *statistics)))
        return self.conv_out(F.relu(self.norm_out(hidden, *statistics)))[:, : self.config["out_channels"]]


class DeepDiscriminatorBlock(nn.Module):
    """Bottleneck of four convolutions; the skip appends channels that a 1x1 convolution makes."""

    def __init__(self, in_channels: int, out_channels: int, downsample: bool):
        super().__init__()
        self.downsample = downsample
        hidden = out_channels // 4
        self.conv1, self.conv2 = nn.Conv2d(in_channels, hidden, 1), nn.Conv2d(hidden, hidden, 3, padding=1)
        self.conv3, self.conv4 = nn.Conv2d(hidden, hidden, 3, padding=1), nn.Conv2d(hidden, out_channels, 1)
        missing = out_channels - in_channels
        self.shortcut = nn.Conv2d(in_channels, missing, 1) if missing > 0 else None

    def forward(self, features: Tensor) -> Tensor:
        skip, hidden = features, features
        for convolve in (self.conv1, self.conv2, self.conv3):
            hidden = convolve(F.relu(hidden))
        hidden = F.relu(hidden)
        if self.downsample:
            hidden, skip = F.avg_pool2d(hidden, 2), F.avg_pool2d(skip, 2)
        if self.shortcut is not None:
            skip = torch.cat([skip, self.shortcut(skip)], dim=1)
        return self.conv4(hidden) + skip


@register_model
class BigGANDeepDiscriminator(Discriminator):
    """Images and classes -> logits; the published 128-px network (34,590,210 parameters) by default.

    Args:
        sample_size: height and width of the images in pixels; 64 to 256 are published.
        in_channels: colour channels of the images.
        num_classes: number of classes; None for unlabelled data.
        head_type: ``projection``, ``linear`` or ``auxiliary``; None takes ``projection`` where there are classes.
        base_channels: unit of the channels; None takes the published number.
        channel_multipliers: channels of the first convolution and each pair of blocks; None takes the published ones.
        halvings: how many pairs of blocks, from the first, halve the size; None takes the published number.
        attention_resolutions: resolutions in pixels after which self-attention follows.
        initialization: as in ``BigGANDeepGenerator``.
        normalizers: see ``Discriminator``; spectral normalization, as published, by default.

    Raises:
        ValueError: there is no published network of this size and no multipliers are given, or a name is unknown.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        sample_size: int = 128,
        in_channels: int = 3,
        num_classes: int | None = 1000,
        head_type: HeadName | None = None,
        base_channels: int | None = None,
        channel_multipliers: tuple[int, ...] | None = None,
        halvings: int | None = None,
        attention_resolutions: tuple[int, ...] = (64,),
        initialization: str = "orthogonal",
        normalizers: tuple[dict[str, Any], ...] = SPECTRAL,
    ):
        super().__init__()
        channels = widths(_DISCRIMINATOR, sample_size, base_channels, channel_multipliers)
        count = len(channels) - 1
        halvings = halvings_of(halvings, count if channel_multipliers is None else None, sample_size, count)
        self.conv_in = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        pairs = [
            (DeepDiscriminatorBlock(i, o, index < halvings), DeepDiscriminatorBlock(o, o, False))
            for index, (i, o) in enumerate(pairwise(channels))
        ]
        self.blocks = nn.ModuleList(block for pair in pairs for block in pair)
        sizes = [sample_size >> min(index + 1, halvings) for index in range(count)]
        self.attentions = nn.ModuleDict(
            {str(2 * i + 1): SelfAttention(channels[i + 1]) for i in attention_places(sizes, attention_resolutions)}
        )
        self.head = make_head(head_type, channels[-1], num_classes)
        initialize(self, initialization)
        self.add_normalizers(normalizers)

    def features(self, images: Tensor) -> Tensor:
        return F.relu(run_blocks(self, self.conv_in(images))).sum((2, 3))
