"""Checkpoints of POSTECH-CVLab/PyTorch-StudioGAN: SNGAN (backbone ``resnet``) and BigGAN (``big_resnet``)."""

from typing import Any

from torch import nn

from ...errors import InputError
from ...models import BigGANDiscriminator, BigGANGenerator, SNGANDiscriminator, SNGANGenerator
from ...models.blocks import SelfAttention
from ..mapping import (
    LayerReader,
    Source,
    build,
    each,
    fill,
    generator_sizes,
    indices,
    torch_layer,
    units,
    weight_shape,
    within,
)
from ..networks import SPECTRAL, Networks
from ..reading import Checkpoint, Options, State

_NORM_EPS = 1e-4
_CONVOLUTIONS = {"conv1": "conv2d1", "conv2": "conv2d2", "shortcut": "conv2d0"}
_ATTENTION = {"": "", **{our: f"conv1x1_{our}" for our in ("theta", "phi", "g")}, "o": "conv1x1_attn"}


def kind(state: State) -> str | None:
    """``generator`` or ``discriminator``, by the keys; None for foreign ones."""
    if not any(key.startswith("blocks.0.0.conv2d") for key in state):
        return None
    return "generator" if any(key.startswith(("linear0.", "conv2d5.", "bn4.")) for key in state) else "discriminator"


def _places(state: State) -> tuple[list[int], list[int]]:
    """Where the list of blocks has residual blocks, and after which of them (counted from 0) attention."""
    places = indices(state, r"blocks\.(\d+)\.0\.")
    blocks = [place for place in places if any(key.startswith(f"blocks.{place}.0.conv2d") for key in state)]
    return blocks, [blocks.index(place - 1) for place in places if place not in blocks and place - 1 in blocks]


def _names(blocks: list[int], attended: list[int], inside: dict[str, str]) -> dict[str, str]:
    after = {index: f"blocks.{blocks[index] + 1}.0" for index in attended}
    places = {index: f"blocks.{place}.0" for index, place in enumerate(blocks)}
    return each("blocks", places, inside) | each("attentions", after, _ATTENTION)


def _layer(layer: nn.Module, name: str) -> dict[str, Source]:
    if isinstance(layer, SelfAttention):
        return {"gamma": Source({f"{name}.sigma": ()})}
    return torch_layer(layer, name)


def _one_hot_layer(layer: nn.Module, name: str) -> dict[str, Source]:
    """Newer versions look scale and shift up by a linear layer on one-hot labels: an embedding, transposed."""
    if isinstance(layer, nn.Embedding):
        classes, channels = layer.weight.shape
        return {"weight": Source({f"{name}.weight": (channels, classes)}, lambda weight: weight.T)}
    return _layer(layer, name)


def _generator(state: State) -> SNGANGenerator | BigGANGenerator:
    blocks, attended = _places(state)
    leaves = [f"blocks.{place}.0.conv2d2" for place in blocks]
    sizes, bottom, chunk = generator_sizes(state, "linear0", f"blocks.{blocks[0]}.0.conv2d1", leaves)
    embedded = any(".embed0." in key for key in state)
    gain_name, bias_name = ("embed0", "embed1") if embedded else ("gain", "bias")
    norm = {"norm": "bn", "gain": gain_name, "bias": bias_name}
    inside = {**_CONVOLUTIONS, **within("norm1", "bn1", norm), **within("norm2", "bn2", norm)}
    names = {"class_embedding": "shared", "linear_in": "linear0", "norm_out": "bn4", "conv_out": "conv2d5"}
    names |= _names(blocks, attended, inside)
    arguments: dict[str, Any] = {"norm_eps": _NORM_EPS, **sizes}
    if any(key.startswith("shared.") for key in state):
        classes, shared_dim = weight_shape(state, "shared", 2)
        generator = build(
            BigGANGenerator,
            num_classes=classes,
            latent_dim=chunk * (len(blocks) + 1),
            shared_dim=shared_dim,
            hierarchical=True,
            attention_resolutions=tuple(bottom * 2 ** (index + 1) for index in attended),
            spectral_norm="linear0.weight_orig" in state,
            **arguments,
        )
        return fill(generator, state, names, _layer)
    gain = weight_shape(state, f"blocks.{blocks[0]}.0.bn1.{gain_name}", 2)
    generator = build(SNGANGenerator, num_classes=gain[0 if embedded else 1], latent_dim=chunk, **arguments)
    read: LayerReader = _layer if embedded else _one_hot_layer
    return fill(generator, state, names, read)


def _discriminator(state: State) -> SNGANDiscriminator | BigGANDiscriminator:
    if any(".bn1." in key for key in state):
        raise InputError(
            "this critic normalizes batches, as those of StudioGAN's WGAN-GP, LGAN and DRAGAN do, contrary to the "
            "papers; only its spectrally normalized discriminators can be converted"
        )
    blocks, attended = _places(state)
    if not 4 <= len(blocks) <= 8:
        raise InputError(
            f"it has {len(blocks)} residual blocks; StudioGAN's discriminators have 4 (32 px) to 8 (512 px)"
        )
    size = 2 ** (len(blocks) + 1)
    arguments: dict[str, Any] = {
        "sample_size": size,
        "halvings": 2 if size == 32 else len(blocks) - 1,
        "num_classes": weight_shape(state, "embedding", 2)[0],
        "activate_shortcut": True,
        "normalizers": SPECTRAL,
        **units([weight_shape(state, f"blocks.{place}.0.conv2d2", 4)[0] for place in blocks]),
    }
    if attended:
        resolutions = tuple(size >> min(index + 1, arguments["halvings"]) for index in attended)
        discriminator = build(BigGANDiscriminator, attention_resolutions=resolutions, **arguments)
    else:
        discriminator = build(SNGANDiscriminator, pooling="sum", wide=True, **arguments)
    names = {"head.linear": "linear1", "head.embedding": "embedding"}
    return fill(discriminator, state, names | _names(blocks, attended, _CONVOLUTIONS), _layer)


def convert(checkpoint: Checkpoint, options: Options | None) -> Networks:
    """The network of a file; which one follows from the keys.

    Raises:
        InputError: it is another network of StudioGAN, or the keys do not fit.
    """
    state = checkpoint.only(kind)
    if kind(state) == "generator":
        return Networks(generator=_generator(state))
    return Networks(discriminator=_discriminator(state))
