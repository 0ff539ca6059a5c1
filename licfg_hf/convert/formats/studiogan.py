"""Checkpoints of POSTECH-CVLab/PyTorch-StudioGAN: SNGAN (backbone ``resnet``) and BigGAN (``big_resnet``)."""

from functools import partial
from typing import Any

from torch import nn

from ...errors import InputError
from ...models import BigGANDiscriminator, BigGANGenerator, SNGANDiscriminator, SNGANGenerator
from ...models.biggan import SPECTRAL
from ...models.blocks import SelfAttention
from ..mapping import Networks, Source, build, fill, torch_layer, transposed, trunk_names, within
from ..reading import Checkpoint, Options, State

_CONVOLUTIONS = {"conv1": "conv2d1", "conv2": "conv2d2", "shortcut": "conv2d0"}
_ATTENTION = {"": "", **{our: f"conv1x1_{our}" for our in ("theta", "phi", "g")}, "o": "conv1x1_attn"}


def kind(state: State) -> str | None:
    """``generator``, ``discriminator`` or None."""
    if not state.has("blocks.0.0.conv2d"):
        return None
    return "generator" if state.has("linear0.", "conv2d5.", "bn4.") else "discriminator"


def _layer(layer: nn.Module, name: str, one_hot: bool = False) -> dict[str, Source]:
    if isinstance(layer, SelfAttention):
        return {"gamma": Source({f"{name}.sigma": ()})}
    return transposed(layer, name) if one_hot and isinstance(layer, nn.Embedding) else torch_layer(layer, name)


def _generator(state: State, blocks: list[str], attentions: dict[int, str]) -> SNGANGenerator | BigGANGenerator:
    leaves = [f"{block}.conv2d2" for block in blocks]
    sizes, bottom, chunk = state.generator_sizes("linear0", f"{blocks[0]}.conv2d1", leaves)
    # Newer versions look scale and shift up by a linear layer on one-hot labels.
    embedded = any(".embed0." in key for key in state)
    gain_name, bias_name = ("embed0", "embed1") if embedded else ("gain", "bias")
    norm = {"norm": "bn", "gain": gain_name, "bias": bias_name}
    inside = {**_CONVOLUTIONS, **within("norm1", "bn1", norm), **within("norm2", "bn2", norm)}
    names = {"class_embedding": "shared", "linear_in": "linear0", "norm_out": "bn4", "conv_out": "conv2d5"}
    names |= trunk_names(blocks, inside, attentions, _ATTENTION)
    arguments: dict[str, Any] = {"norm_eps": 1e-4, **sizes}
    if state.has("shared."):
        classes, shared_dim = state.weight_shape("shared", 2)
        arguments |= {"num_classes": classes, "shared_dim": shared_dim, "hierarchical": True}
        arguments |= {"latent_dim": chunk * (len(blocks) + 1), "spectral_norm": "linear0.weight_orig" in state}
        arguments["attention_resolutions"] = tuple(bottom * 2 ** (index + 1) for index in attentions)
        return fill(build(BigGANGenerator, **arguments), state, names, _layer)
    gain = state.weight_shape(f"{blocks[0]}.bn1.{gain_name}", 2)
    generator = build(SNGANGenerator, num_classes=gain[0 if embedded else 1], latent_dim=chunk, **arguments)
    return fill(generator, state, names, partial(_layer, one_hot=not embedded))


def _discriminator(state: State, blocks: list[str], attentions: dict[int, str]) -> Any:
    if any(".bn1." in key for key in state):
        raise InputError(
            "this critic normalizes batches, as those of StudioGAN's WGAN-GP, LGAN and DRAGAN do, contrary to the "
            "papers; only its spectrally normalized discriminators can be converted"
        )
    if not 4 <= len(blocks) <= 8:
        raise InputError(
            f"it has {len(blocks)} residual blocks; StudioGAN's discriminators have 4 (32 px) to 8 (512 px)"
        )
    size = 2 ** (len(blocks) + 1)
    halvings = 2 if size == 32 else len(blocks) - 1
    arguments: dict[str, Any] = {"sample_size": size, "halvings": halvings, "normalizers": SPECTRAL}
    arguments |= {"num_classes": state.weight_shape("embedding", 2)[0], "activate_shortcut": True}
    arguments |= state.widths(f"{block}.conv2d2" for block in blocks)
    if attentions:
        resolutions = tuple(size >> min(index + 1, halvings) for index in attentions)
        discriminator = build(BigGANDiscriminator, attention_resolutions=resolutions, **arguments)
    else:
        discriminator = build(SNGANDiscriminator, pooling="sum", wide=True, **arguments)
    names = {"head.linear": "linear1", "head.embedding": "embedding"}
    names |= trunk_names(blocks, _CONVOLUTIONS, attentions, _ATTENTION)
    return fill(discriminator, state, names, _layer)


def convert(checkpoint: Checkpoint, options: Options | None) -> Networks:
    """The one network of a file."""
    state = checkpoint.only(kind)
    trunk = state.trunk("blocks.{}.0", "conv2d")
    if kind(state) == "generator":
        return Networks(_generator(state, *trunk))
    return Networks(discriminator=_discriminator(state, *trunk))
