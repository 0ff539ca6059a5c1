"""BigGAN (Brock, Donahue, Simonyan, ICLR 2019), as ajbrock/BigGAN-PyTorch publishes it."""

from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..objective.weights import spectral_normalize
from .base import Discriminator, Generator, register_model
from .blocks import (
    BatchNorm,
    ConditionalBatchNorm,
    DiscriminatorBlock,
    GeneratorBlock,
    SelfAttention,
    initialize,
    run_blocks,
)
from .heads import HeadName, embed_labels, make_head
from .sizes import attention_places, halvings_of, require_positive, smallest_size, widths

# sample_size -> (base channels, multipliers) from the lowest resolution to the highest.
_GENERATOR = {
    32: (64, (4, 4, 4, 4)),
    64: (96, (16, 16, 8, 4, 2)),
    128: (96, (16, 16, 8, 4, 2, 1)),
    256: (96, (16, 16, 8, 8, 4, 2, 1)),
    512: (96, (16, 16, 8, 8, 4, 2, 1, 1)),
}
# sample_size -> (base channels, multipliers), one per block; and how many of the blocks halve the size.
_DISCRIMINATOR = {
    32: (64, (4, 4, 4, 4)),
    64: (96, (1, 2, 4, 8, 16)),
    128: (96, (1, 2, 4, 8, 16, 16)),
    256: (96, (1, 2, 4, 8, 8, 16, 16)),
}
_HALVINGS = {32: 2, 64: 4, 128: 5, 256: 6}
SPECTRAL = ({"kind": "spectral", "k": 1.0},)


def spectral_normalize_generator(generator: nn.Module) -> None:
    """Normalizes convolutions and linear layers; embeddings stay as they are, as in the reference's generators."""
    for layer in list(generator.modules()):
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            spectral_normalize(layer)


@register_model
class BigGANGenerator(Generator):
    """Latents and classes -> images; the published CIFAR-10 network (4,304,387 parameters) by default.

    Args:
        sample_size: height and width of the images in pixels; 32 to 512 are published.
        out_channels: colour channels of the images.
        num_classes: number of classes.
        latent_dim: length of the latent vector; with ``hierarchical`` a multiple of the number of blocks + 1.
        shared_dim: length of a class embedding that all layers share; None gives each conditional BatchNorm its own.
        hierarchical: each block gets its own part of the latent beside the class embedding.
        base_channels: unit of the channels; None takes the published number.
        channel_multipliers: channels from the lowest resolution up, in units of the base; None takes the published.
        attention_resolutions: resolutions in pixels after which self-attention follows.
        spectral_norm: whether convolutions and linear layers are spectrally normalized.
        norm_eps: eps of BatchNorm.
        initialization: ``normal`` (N(0, 0.02^2), published for CIFAR-10), ``orthogonal`` (for ImageNet), ``xavier``.

    Raises:
        ValueError: there is no published network of this size and no multipliers are given, or the latent cannot be
            split.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        out_channels: int = 3,
        num_classes: int = 10,
        latent_dim: int = 128,
        shared_dim: int | None = None,
        hierarchical: bool = False,
        base_channels: int | None = None,
        channel_multipliers: tuple[int, ...] | None = None,
        attention_resolutions: tuple[int, ...] = (),
        spectral_norm: bool = True,
        norm_eps: float = 1e-5,
        initialization: str = "normal",
    ):
        super().__init__()
        require_positive(num_classes=num_classes, latent_dim=latent_dim, shared_dim=shared_dim, norm_eps=norm_eps)
        channels = widths(_GENERATOR, sample_size, base_channels, channel_multipliers)
        count = len(channels) - 1
        self.bottom = smallest_size(sample_size, count)
        if hierarchical and shared_dim is None:
            raise ValueError("hierarchical latents are concatenated with a shared class embedding: pass shared_dim")
        if hierarchical and latent_dim % (count + 1):
            raise ValueError(
                f"latent_dim {latent_dim} cannot be split over the first layer and {count} blocks: "
                f"{latent_dim // (count + 1) * (count + 1)} can"
            )
        self.chunk = latent_dim // (count + 1) if hierarchical else latent_dim
        self.class_embedding = None if shared_dim is None else nn.Embedding(num_classes, shared_dim)
        condition_dim = (shared_dim or 0) + (self.chunk if hierarchical else 0)
        labels = num_classes if shared_dim is None else None
        make_norm = partial(ConditionalBatchNorm, condition_dim=condition_dim, num_classes=labels, eps=norm_eps)
        self.linear_in = nn.Linear(self.chunk, channels[0] * self.bottom**2)
        self.blocks = nn.ModuleList(GeneratorBlock(i, o, make_norm) for i, o in pairwise(channels))
        sizes = [self.bottom * 2 ** (index + 1) for index in range(count)]
        self.attentions = nn.ModuleDict(
            {str(i): SelfAttention(channels[i + 1]) for i in attention_places(sizes, attention_resolutions)}
        )
        self.norm_out = BatchNorm(channels[-1], eps=norm_eps)
        self.conv_out = nn.Conv2d(channels[-1], out_channels, 3, padding=1)
        initialize(self, initialization)
        if spectral_norm:
            spectral_normalize_generator(self)

    def synthesize(self, latents: Tensor, class_labels: Tensor) -> Tensor:
        first, conditions = latents, [class_labels] * len(self.blocks)
        if self.class_embedding is not None:
            embedded = embed_labels(self.class_embedding, class_labels)
            conditions = [embedded] * len(self.blocks)
            if self.config["hierarchical"]:
                first, *chunks = latents.split(self.chunk, dim=1)
                conditions = [torch.cat([embedded, chunk], dim=1) for chunk in chunks]
        hidden = self.linear_in(first).unflatten(1, (-1, self.bottom, self.bottom))
        hidden = run_blocks(self, hidden, zip(conditions, strict=True))
        return self.conv_out(F.relu(self.norm_out(hidden)))


@register_model
class BigGANDiscriminator(Discriminator):
    """Images and classes -> logits; the published CIFAR-10 network (4,207,361 parameters) by default.

    Args:
        sample_size: height and width of the images in pixels; 32 to 256 are published.
        in_channels: colour channels of the images.
        num_classes: number of classes; None for unlabelled data.
        head_type: ``projection``, ``linear`` or ``auxiliary``; None takes ``projection`` where there are classes.
        base_channels: unit of the channels; None takes the published number.
        channel_multipliers: channels of each block, in units of the base; None takes the published ones.
        halvings: how many blocks, from the first, halve the size; None takes the published number.
        attention_resolutions: resolutions in pixels after which self-attention follows.
        wide: whether blocks have as many hidden channels as they give, instead of as they get.
        activate_shortcut: whether the ReLU that opens a block also precedes its shortcut, as in mimicry and StudioGAN,
            where it works in place.
        initialization: as in ``BigGANGenerator``.
        normalizers: see ``Discriminator``; spectral normalization, as published, by default.

    Raises:
        ValueError: there is no published network of this size and no multipliers are given, or a name is unknown.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        in_channels: int = 3,
        num_classes: int | None = 10,
        head_type: HeadName | None = None,
        base_channels: int | None = None,
        channel_multipliers: tuple[int, ...] | None = None,
        halvings: int | None = None,
        attention_resolutions: tuple[int, ...] = (),
        wide: bool = True,
        activate_shortcut: bool = False,
        initialization: str = "normal",
        normalizers: tuple[dict[str, Any], ...] = SPECTRAL,
    ):
        super().__init__()
        channels = widths(_DISCRIMINATOR, sample_size, base_channels, channel_multipliers)
        published = _HALVINGS.get(sample_size) if channel_multipliers is None else None
        halvings = halvings_of(halvings, published, sample_size, len(channels))
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(i, o, o if wide else i, index < halvings, index == 0, activate_shortcut)
            for index, (i, o) in enumerate(pairwise([in_channels, *channels]))
        )
        sizes = [sample_size >> min(index + 1, halvings) for index in range(len(channels))]
        self.attentions = nn.ModuleDict(
            {str(i): SelfAttention(channels[i]) for i in attention_places(sizes, attention_resolutions)}
        )
        self.head = make_head(head_type, channels[-1], num_classes)
        initialize(self, initialization)
        self.add_normalizers(normalizers)

    def features(self, images: Tensor) -> Tensor:
        return F.relu(run_blocks(self, images)).sum((2, 3))
