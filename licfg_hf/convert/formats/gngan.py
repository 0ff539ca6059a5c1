"""Checkpoints of basiclab/GNGAN-PyTorch: its CNNs, ResNets and BigGANs."""

import itertools
from typing import Any

from ...errors import InputError
from ...models import BigGANDiscriminator, BigGANGenerator, SNGANDiscriminator, SNGANGenerator
from ..mapping import build, each, fill, generator_sizes, indices, square_root, units, weight_shape, within
from ..networks import ONLY_WEIGHTS, Networks
from ..reading import Checkpoint, Options, State

_RAW = (
    "The discriminator is the network itself: GNGAN-PyTorch normalizes it in its training loop. "
    "GradientNormalized(discriminator) does that here."
)
_RESNET_GENERATOR_BLOCK = {
    "norm1": "residual.0",
    "conv1": "residual.3",
    "norm2": "residual.4",
    "conv2": "residual.6",
    "shortcut": "shortcut.1",
}
_CONDITIONAL_NORM = {"norm": "batchnorm2d", "gain": "gain", "bias": "bias"}
_BIGGAN_GENERATOR_BLOCK = {
    **within("norm1", "bn1", _CONDITIONAL_NORM),
    **within("norm2", "bn2", _CONDITIONAL_NORM),
    "conv1": "residual1.2",
    "conv2": "residual2.1",
    "shortcut": "shortcut.1",
}
_FIRST_BLOCK = {"conv1": "residual.0", "conv2": "residual.2", "shortcut": "shortcut.1"}
_BLOCK = {"conv1": "residual.1", "conv2": "residual.3", "shortcut": "shortcut.0"}
_ATTENTION = {"": "", "theta": "q", "phi": "k", "g": "v", "o": "o"}
# (number of residual blocks, how many of them halve the size) -> image size
_RESNET_SIZES = {(4, 2): 32, (4, 4): 48, (6, 5): 128, (7, 6): 256}


def kind(state: State) -> str | None:
    """A network's kind, by its keys: ``cnn generator``, ``biggan discriminator`` and so on; None for others."""

    def has(*beginnings: str) -> bool:
        return any(key.startswith(beginnings) for key in state)

    if any(key.endswith(".weight_raw") for key in state):
        return "Faster-GNGAN"
    if has("output_layer.") and any(".residual1." in key for key in state):
        return "biggan generator"
    if has("output.") and has("blocks.0.residual."):
        return "resnet generator"
    if has("model.0.residual."):
        return "resnet discriminator"
    if has("blocks.0.residual.") and has("embedding."):
        return "biggan discriminator"
    if has("main.0."):
        # The generator's begins with BatchNorm, the discriminator's with a convolution of the image.
        return "cnn generator" if has("main.0.running_") or has("main.11.") else "cnn discriminator"
    return None


def _run(state: State, first: int, step: int) -> int:
    """How many of the layers ``main.first``, ``main.first + step``, ... there are, up to the first gap."""
    places = indices(state, r"main\.(\d+)\.")
    return next(number for number in itertools.count() if first + number * step not in places)


def _cnn_generator(state: State) -> SNGANGenerator:
    blocks = max(1, _run(state, 2, 3)) - 1  # a convolution each, and the last one
    channels = [weight_shape(state, f"main.{3 * index + 2}", 4)[0] for index in range(blocks + 1)]
    features, latent_dim = weight_shape(state, "linear", 2)
    generator = build(
        SNGANGenerator,
        sample_size=square_root(features // channels[0], "linear") * 2**blocks,
        architecture="cnn",
        latent_dim=latent_dim,
        **units(channels),
    )
    names = {"linear_in": "linear", "norm_out": f"main.{3 * blocks}", "conv_out": f"main.{3 * blocks + 2}"}
    for index in range(blocks):
        names |= {f"blocks.{index}.norm": f"main.{3 * index}", f"blocks.{index}.conv": f"main.{3 * index + 2}"}
    return fill(generator, state, names)


def _cnn_discriminator(state: State) -> SNGANDiscriminator:
    pairs = _run(state, 4, 4)
    channels = [weight_shape(state, f"main.{4 * index}", 4)[0] for index in range(pairs + 1)]
    bottom = square_root(weight_shape(state, "linear", 2)[1] // channels[-1], "linear")
    discriminator = build(SNGANDiscriminator, sample_size=bottom * 2**pairs, architecture="cnn", **units(channels))
    names = {"head.linear": "linear", "blocks.0.0": "main.0"}
    for index in range(1, pairs + 1):
        names |= {f"blocks.{index}.0": f"main.{4 * index - 2}", f"blocks.{index}.2": f"main.{4 * index}"}
    return fill(discriminator, state, names)


def _resnet_generator(state: State) -> SNGANGenerator:
    blocks = indices(state, r"blocks\.(\d+)\.")
    leaves = [f"blocks.{index}.residual.6" for index in blocks]
    sizes, _, latent_dim = generator_sizes(state, "linear", f"blocks.{blocks[0]}.residual.3", leaves)
    generator = build(SNGANGenerator, latent_dim=latent_dim, **sizes)
    names = {"linear_in": "linear", "norm_out": "output.0", "conv_out": "output.2"}
    places = {index: f"blocks.{index}" for index in range(len(blocks))}
    return fill(generator, state, names | each("blocks", places, _RESNET_GENERATOR_BLOCK))


def _residual_trunk(state: State, prefix: str) -> tuple[dict[str, Any], dict[str, str], list[int]]:
    """Of a residual discriminator: arguments, names of the blocks, and the blocks that attention follows."""
    places = indices(state, rf"{prefix}\.(\d+)\.")
    blocks = [place for place in places if any(key.startswith(f"{prefix}.{place}.residual.") for key in state)]
    halving = [place for place in blocks if any(key.startswith(f"{prefix}.{place}.shortcut.") for key in state)]
    if (len(blocks), len(halving)) not in _RESNET_SIZES:
        known = ", ".join(f"{count} and {halvings}" for count, halvings in _RESNET_SIZES)
        raise InputError(
            f"it has {len(blocks)} blocks, {len(halving)} of them with a shortcut; the discriminators of "
            f"GNGAN-PyTorch have {known}"
        )
    names = {}
    for index, place in enumerate(blocks):
        names |= within(f"blocks.{index}", f"{prefix}.{place}", _BLOCK if index else _FIRST_BLOCK)
    attended = [blocks.index(place - 1) for place in places if place not in blocks and place - 1 in blocks]
    for index in attended:
        names |= within(f"attentions.{index}", f"{prefix}.{blocks[index] + 1}", _ATTENTION)
    outputs = [(".residual.3" if index else ".residual.2") for index in range(len(blocks))]
    channels = [
        weight_shape(state, f"{prefix}.{place}{conv}", 4)[0] for place, conv in zip(blocks, outputs, strict=True)
    ]
    size = _RESNET_SIZES[len(blocks), len(halving)]
    return {"sample_size": size, "halvings": len(halving), **units(channels)}, names, attended


def _resnet_discriminator(state: State) -> SNGANDiscriminator:
    arguments, names, _ = _residual_trunk(state, "model")
    return fill(build(SNGANDiscriminator, **arguments), state, names | {"head.linear": "linear"})


def _biggan_discriminator(state: State) -> BigGANDiscriminator:
    arguments, names, attended = _residual_trunk(state, "blocks")
    discriminator = build(
        BigGANDiscriminator,
        num_classes=weight_shape(state, "embedding", 2)[0],
        attention_resolutions=tuple(arguments["sample_size"] >> index + 1 for index in attended),
        normalizers=(),
        **arguments,
    )
    return fill(discriminator, state, names | {"head.linear": "linear", "head.embedding": "embedding"})


def _biggan_generator(state: State) -> BigGANGenerator:
    count = len(indices(state, r"blocks\.(\d+)\."))
    attended = indices(state, r"blocks\.(\d+)\.1\.")  # such a block is a list of the block and its attention
    places = [f"blocks.{index}.0" if index in attended else f"blocks.{index}" for index in range(count)]
    leaves = [f"{place}.residual2.1" for place in places]
    sizes, bottom, chunk = generator_sizes(state, "linear", f"{places[0]}.residual1.2", leaves)
    arguments: dict[str, Any] = {
        "num_classes": weight_shape(state, f"{places[0]}.bn1.gain", 2)[0],
        "latent_dim": chunk,
    }
    if any(key.startswith("shared_embedding.") for key in state):
        classes, shared_dim = weight_shape(state, "shared_embedding", 2)
        arguments = {
            "num_classes": classes,
            "latent_dim": chunk * (count + 1),
            "shared_dim": shared_dim,
            "hierarchical": True,
        }
    generator = build(
        BigGANGenerator,
        attention_resolutions=tuple(bottom * 2 ** (index + 1) for index in attended),
        **arguments,
        **sizes,
    )
    names = {"class_embedding": "shared_embedding", "linear_in": "linear"}
    names |= {"norm_out": "output_layer.0", "conv_out": "output_layer.2"}
    names |= each("blocks", dict(enumerate(places)), _BIGGAN_GENERATOR_BLOCK)
    names |= each("attentions", {index: f"blocks.{index}.1" for index in attended}, _ATTENTION)
    return fill(generator, state, names)


_CONVERTERS = {
    "cnn generator": _cnn_generator,
    "cnn discriminator": _cnn_discriminator,
    "resnet generator": _resnet_generator,
    "resnet discriminator": _resnet_discriminator,
    "biggan generator": _biggan_generator,
    "biggan discriminator": _biggan_discriminator,
}


def _pick(checkpoint: Checkpoint, names: tuple[str, ...], role: str) -> tuple[State, str] | None:
    """The first state dict that plays a role, in the order of the names, or the only one, and its name."""
    found = [name for name, state in checkpoint.states.items() if (kind(state) or "").endswith(role)]
    known = [name for name in names if name in found]
    if not known and found:
        checkpoint.only(lambda state: (kind(state) or "").endswith(role))
    return next(((checkpoint.states[name], name) for name in (*known, *found)), None)


def convert(checkpoint: Checkpoint, options: Options | None) -> Networks:
    """The networks of a file, the averaged generator where there is one.

    Raises:
        InputError: the keys do not fit, or it is a checkpoint of Faster-GNGAN.
    """
    if "Faster-GNGAN" in map(kind, checkpoint.states.values()):
        raise InputError(
            "this is a checkpoint of Faster-GNGAN, which scales its weights in another parametrization (weight_raw, "
            "weight_scale); only GNGAN-PyTorch can be converted"
        )
    generator = _pick(checkpoint, ("ema_G", "net_G"), "generator")
    discriminator = _pick(checkpoint, ("net_D",), "discriminator")
    descriptions = {"ema_G": "EMA weights (ema_G)", "net_G": "trained weights (net_G); the file has no EMA"}
    return Networks(
        generator=generator and _CONVERTERS[str(kind(generator[0]))](generator[0]),
        discriminator=discriminator and _CONVERTERS[str(kind(discriminator[0]))](discriminator[0]),
        generator_weights=descriptions.get(generator[1], ONLY_WEIGHTS) if generator else ONLY_WEIGHTS,
        notes=(_RAW,) if discriminator else (),
    )
