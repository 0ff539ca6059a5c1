"""Checkpoints of huggingface/pytorch-pretrained-BigGAN: the released BigGAN-deep generators with their tables.

Three layouts differ and are absorbed here: the condition is (latent, class) there and (class, latent) here; the first
layer's output is (height, width, channels) there and (channels, height, width) here; the class embedding is a linear
layer there.
"""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...models import BigGANDeepGenerator
from ..mapping import Networks, Source, build, fill, torch_layer, transposed, trunk_names, within
from ..reading import Checkpoint, Options, State

_NOTES = (
    "The BatchNorm statistics come from the file's tables, which fine-tuning does not change.",
    "The tables are interpolated with the quirks of pytorch-pretrained-BigGAN (reference_quirks=True).",
)
_BOTTOM = 4  # pixels
_NORM = {"norm": "", "gain": "scale", "bias": "offset"}
_BLOCK = {
    **{f"conv{i + 1}": f"conv_{i}" for i in range(4)},
    **{our: their for i in range(4) for our, their in within(f"norm{i + 1}", f"bn_{i}", _NORM).items()},
}
_ATTENTION = {"": "", **{our: f"snconv1x1_{our}" for our in ("theta", "phi", "g")}, "o": "snconv1x1_o_conv"}
_FIRST = "generator.gen_z"
_OUTER = {
    "class_embedding": "embeddings",
    "linear_in": _FIRST,
    "norm_out": "generator.bn",
    "norm_out.norm": "generator.bn",
    "conv_out": "generator.conv_to_rgb",
}


def kind(state: State) -> str | None:
    """``generator`` or None."""
    return "generator" if state.has(f"{_FIRST}.") else None


def _channels_first(rows: Tensor) -> Tensor:
    """(positions, channels) -> (channels, positions) in the first dimension."""
    return rows.unflatten(0, (_BOTTOM**2, -1)).transpose(0, 1).flatten(0, 1)


def _layer(layer: nn.Module, name: str, latent_dim: int) -> dict[str, Source]:
    def swap(columns: Tensor) -> Tensor:
        """(latent, class) -> (class, latent) in the last dimension."""
        return torch.cat([columns[..., latent_dim:], columns[..., :latent_dim]], dim=-1)

    if isinstance(layer, nn.Embedding):
        return transposed(layer, name)
    sources = torch_layer(layer, name)
    if isinstance(layer, nn.Linear):
        # Every linear layer takes the condition: its columns and the right singular vector follow the same order.
        original = "parametrizations.weight.original"
        makers = {original: swap, "parametrizations.weight.0.v": swap}
        if name == _FIRST:
            makers |= {original: lambda weight: _channels_first(swap(weight))}
            makers |= dict.fromkeys(("bias", "parametrizations.weight.0.u"), _channels_first)
        sources |= {entry: replace(sources[entry], make=make) for entry, make in makers.items()}
    return sources


def _multipliers(options: Options) -> tuple[int, ...]:
    """Channels from the lowest resolution to the highest: of two blocks per resolution, the second doubles it."""
    layers = [tuple(layer) for layer in options.read("layers", list) if isinstance(layer, (list, tuple))]
    channels = [layer[1] for layer in layers[:1]] + [layer[2] for layer in layers[1::2] if len(layer) == 3]
    expected = [step for i, o in pairwise(channels) for step in ((False, i, i), (True, i, o))]
    if not expected or layers != expected or not all(isinstance(number, int) for number in channels):
        raise InputError(
            "cannot convert the layers of the config: they must be pairs of blocks, as in the release, and the second "
            "block of each pair must double the size"
        )
    return tuple(channels)


def convert(checkpoint: Checkpoint, options: Options | None) -> Networks:
    """The generator of a file."""
    state = checkpoint.only(kind)
    if options is None:
        raise InputError(
            "it does not hold the network's options: pass --config with the config.json published with it"
        )
    options.require(n_stats=51)
    multipliers = _multipliers(options)
    size = _BOTTOM * 2 ** (len(multipliers) - 1)
    options.require(output_dim=size)
    position, latent_dim = options.read("attention_layer_position", int), options.read("z_dim", int)
    if position % 2 or not 0 < position < 2 * (len(multipliers) - 1):
        raise InputError(f"attention_layer_position is a place after a block that doubles the size, not {position}")
    generator = build(
        BigGANDeepGenerator,
        sample_size=size,
        num_classes=options.read("num_classes", int),
        latent_dim=latent_dim,
        shared_dim=options.read("class_embed_dim", int),
        base_channels=options.read("channel_width", int),
        channel_multipliers=multipliers,
        attention_resolutions=(_BOTTOM * 2 ** (position // 2),),
        variant="truncation_table",
        reference_quirks=True,
        norm_eps=options.read("eps", float),
    )
    blocks = [f"generator.layers.{index + (index >= position)}" for index in range(len(generator.blocks))]
    attentions = {position - 1: f"generator.layers.{position}"}
    names = _OUTER | trunk_names(blocks, _BLOCK, attentions, _ATTENTION)
    generator = fill(generator, state, names, partial(_layer, latent_dim=latent_dim))
    return Networks(generator, options=options.used, notes=_NOTES)
