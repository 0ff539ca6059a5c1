"""Checkpoints of kwotsin/mimicry: its SNGAN for 32, 48, 64 and 128 pixels."""

from typing import Any

from ...errors import InputError
from ...models import SNGANDiscriminator, SNGANGenerator
from ...models.biggan import SPECTRAL
from ..mapping import Networks, build, fill, trunk_names
from ..reading import Checkpoint, Options, State

_BLOCK = {"norm1": "b1", "norm2": "b2", "conv1": "c1", "conv2": "c2", "shortcut": "c_sc"}
# (number of blocks, name of the last layer) -> image size, how many blocks halve it. The discriminators for 48 and 64
# pixels have the same weights; only the last layer's name tells them apart.
_DISCRIMINATORS = {(4, "l5"): (32, 2), (5, "l5"): (48, 4), (5, "l6"): (64, 5), (6, "l7"): (128, 5)}
_PUBLISHED: dict[str, Any] = {"wide": False, "pooling": "sum", "activate_shortcut": True, "normalizers": SPECTRAL}


def kind(state: State) -> str | None:
    """``generator``, ``discriminator`` or None."""
    if state.has("block1.c"):
        return "discriminator"
    return "generator" if state.has("l1.", "block2.c1.") else None


def _generator(state: State, blocks: list[int]) -> SNGANGenerator:
    leaves = [f"block{index}.c1" for index in blocks]
    sizes, _, latent_dim = state.generator_sizes("l1", leaves[0], leaves)
    generator = build(SNGANGenerator, latent_dim=latent_dim, upsample_mode="bilinear", **sizes)
    last = blocks[-1] + 1
    names = {"linear_in": "l1", "norm_out": f"b{last}", "conv_out": f"c{last}"}
    places = (f"block{index + 2}" for index in range(len(blocks)))
    return fill(generator, state, names | trunk_names(places, _BLOCK))


def _discriminator(state: State, blocks: list[int]) -> SNGANDiscriminator:
    last = [key.removesuffix(".bias") for key in state if key.startswith("l") and key.endswith(".bias")]
    if len(last) != 1 or (len(blocks), last[0]) not in _DISCRIMINATORS:
        known = ", ".join(f"{count} and {name}" for count, name in _DISCRIMINATORS)
        raise InputError(
            f"it has {len(blocks)} blocks and the last layers {last}; the SNGAN discriminators of mimicry have {known}"
        )
    size, halvings = _DISCRIMINATORS[len(blocks), last[0]]
    channels = state.widths(f"block{index}.c2" for index in blocks)
    discriminator = build(SNGANDiscriminator, sample_size=size, halvings=halvings, **_PUBLISHED, **channels)
    names = trunk_names((f"block{index + 1}" for index in range(len(blocks))), _BLOCK)
    return fill(discriminator, state, names | {"head.linear": last[0]})


def convert(checkpoint: Checkpoint, options: Options | None) -> Networks:
    """The one network of a file."""
    state = checkpoint.only(kind)
    marks = {
        "cGAN-PD": state.has("l_y.") or any(".embed." in key for key in state),
        "SAGAN": state.has("attn_block"),
        "unnormalized": any(key.startswith("block1.") and key.endswith(".weight") for key in state),
    }
    for name, found in marks.items():
        if found:
            raise InputError(f"this is a {name} network of mimicry; of its networks only SNGAN can be converted")
    blocks = state.indices(r"block(\d+)\.")
    if not blocks:
        raise InputError("it has no blocks")
    if kind(state) == "generator":
        return Networks(_generator(state, blocks))
    return Networks(discriminator=_discriminator(state, blocks))
