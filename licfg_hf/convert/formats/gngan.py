"""Checkpoints of basiclab/GNGAN-PyTorch: its CNNs, ResNets and BigGANs."""

import itertools
from typing import Any

from ...errors import InputError
from ...models import BigGANDiscriminator, BigGANGenerator, SNGANDiscriminator, SNGANGenerator
from ..mapping import ONLY_WEIGHTS, Networks, build, fill, trunk_names, within
from ..reading import Checkpoint, Options, State, square_root

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
# the weights in a file, the best first -> what the card calls them
_GENERATORS = {"ema_G": "EMA weights (ema_G)", "net_G": "trained weights (net_G); the file has no EMA"}


def kind(state: State) -> str | None:
    """``cnn generator``, ``biggan discriminator`` and so on, ``Faster-GNGAN`` or None."""
    if any(key.endswith(".weight_raw") for key in state):
        return "Faster-GNGAN"
    if state.has("output_layer.") and any(".residual1." in key for key in state):
        return "biggan generator"
    if state.has("output.") and state.has("blocks.0.residual."):
        return "resnet generator"
    if state.has("model.0.residual."):
        return "resnet discriminator"
    if state.has("blocks.0.residual.") and state.has("embedding."):
        return "biggan discriminator"
    if state.has("main.0."):
        # The generator's begins with BatchNorm, the discriminator's with a convolution of the image.
        return "cnn generator" if state.has("main.0.running_", "main.11.") else "cnn discriminator"
    return None


def _run(state: State, first: int, step: int) -> int:
    """How many of the layers ``main.first``, ``main.first + step``, ... there are, up to the first gap."""
    places = state.indices(r"main\.(\d+)\.")
    return next(number for number in itertools.count() if first + number * step not in places)


def _cnn_generator(state: State) -> SNGANGenerator:
    blocks = max(1, _run(state, 2, 3)) - 1  # a convolution each, and the last one
    features, latent_dim = state.weight_shape("linear", 2)
    generator = build(
        SNGANGenerator,
        sample_size=square_root(features // state.weight_shape("main.2", 4)[0], "linear") * 2**blocks,
        architecture="cnn",
        latent_dim=latent_dim,
        **state.widths(f"main.{3 * index + 2}" for index in range(blocks + 1)),
    )
    names = {"linear_in": "linear", "norm_out": f"main.{3 * blocks}", "conv_out": f"main.{3 * blocks + 2}"}
    for index in range(blocks):
        names |= {f"blocks.{index}.norm": f"main.{3 * index}", f"blocks.{index}.conv": f"main.{3 * index + 2}"}
    return fill(generator, state, names)


def _cnn_discriminator(state: State) -> SNGANDiscriminator:
    pairs = _run(state, 4, 4)
    features = state.weight_shape("linear", 2)[1] // state.weight_shape(f"main.{4 * pairs}", 4)[0]
    size = square_root(features, "linear") * 2**pairs
    channels = state.widths(f"main.{4 * index}" for index in range(pairs + 1))
    names = {"head.linear": "linear", "blocks.0.0": "main.0"}
    for index in range(1, pairs + 1):
        names |= {f"blocks.{index}.0": f"main.{4 * index - 2}", f"blocks.{index}.2": f"main.{4 * index}"}
    return fill(build(SNGANDiscriminator, sample_size=size, architecture="cnn", **channels), state, names)


def _resnet_generator(state: State) -> SNGANGenerator:
    blocks = [f"blocks.{index}" for index in state.indices(r"blocks\.(\d+)\.")]
    leaves = [f"{block}.residual.6" for block in blocks]
    sizes, _, latent_dim = state.generator_sizes("linear", f"{blocks[0]}.residual.3", leaves)
    names = {"linear_in": "linear", "norm_out": "output.0", "conv_out": "output.2"}
    names |= trunk_names(blocks, _RESNET_GENERATOR_BLOCK)
    return fill(build(SNGANGenerator, latent_dim=latent_dim, **sizes), state, names)


def _residual(state: State, place: str) -> tuple[dict[str, Any], dict[str, str], list[int]]:
    """Of a residual discriminator: arguments, names of the layers, and the blocks that attention follows."""
    blocks, attentions = state.trunk(place, "residual.")
    halvings = sum(state.has(f"{block}.shortcut.") for block in blocks)
    if (len(blocks), halvings) not in _RESNET_SIZES:
        known = ", ".join(f"{count} and {halved}" for count, halved in _RESNET_SIZES)
        raise InputError(
            f"it has {len(blocks)} blocks, {halvings} of them with a shortcut; the discriminators of "
            f"GNGAN-PyTorch have {known}"
        )
    names = trunk_names(blocks, _BLOCK, attentions, _ATTENTION) | within("blocks.0", blocks[0], _FIRST_BLOCK)
    leaves = [f"{blocks[0]}.residual.2", *(f"{block}.residual.3" for block in blocks[1:])]
    size = _RESNET_SIZES[len(blocks), halvings]
    arguments = {"sample_size": size, "halvings": halvings, **state.widths(leaves)}
    return arguments, names | {"head.linear": "linear"}, list(attentions)


def _resnet_discriminator(state: State) -> SNGANDiscriminator:
    arguments, names, _ = _residual(state, "model.{}")
    return fill(build(SNGANDiscriminator, **arguments), state, names)


def _biggan_discriminator(state: State) -> BigGANDiscriminator:
    arguments, names, attended = _residual(state, "blocks.{}")
    discriminator = build(
        BigGANDiscriminator,
        num_classes=state.weight_shape("embedding", 2)[0],
        attention_resolutions=tuple(arguments["sample_size"] >> index + 1 for index in attended),
        normalizers=(),
        **arguments,
    )
    return fill(discriminator, state, names | {"head.embedding": "embedding"})


def _biggan_generator(state: State) -> BigGANGenerator:
    attended = state.indices(r"blocks\.(\d+)\.1\.")  # such a block is a list of the block and its attention
    numbers = range(len(state.indices(r"blocks\.(\d+)\.")))
    blocks = [f"blocks.{index}.0" if index in attended else f"blocks.{index}" for index in numbers]
    leaves = [f"{block}.residual2.1" for block in blocks]
    sizes, bottom, chunk = state.generator_sizes("linear", f"{blocks[0]}.residual1.2", leaves)
    classes, latent_dim = state.weight_shape(f"{blocks[0]}.bn1.gain", 2)[0], chunk
    if state.has("shared_embedding."):
        classes, shared_dim = state.weight_shape("shared_embedding", 2)
        latent_dim = chunk * (len(blocks) + 1)
        sizes |= {"shared_dim": shared_dim, "hierarchical": True}
    resolutions = tuple(bottom * 2 ** (index + 1) for index in attended)
    sizes |= {"num_classes": classes, "latent_dim": latent_dim, "attention_resolutions": resolutions}
    names = {"class_embedding": "shared_embedding", "linear_in": "linear"}
    names |= {"norm_out": "output_layer.0", "conv_out": "output_layer.2"}
    attentions = {index: f"blocks.{index}.1" for index in attended}
    names |= trunk_names(blocks, _BIGGAN_GENERATOR_BLOCK, attentions, _ATTENTION)
    return fill(build(BigGANGenerator, **sizes), state, names)


_CONVERTERS = {
    "cnn generator": _cnn_generator,
    "cnn discriminator": _cnn_discriminator,
    "resnet generator": _resnet_generator,
    "resnet discriminator": _resnet_discriminator,
    "biggan generator": _biggan_generator,
    "biggan discriminator": _biggan_discriminator,
}


def _pick(checkpoint: Checkpoint, names: tuple[str, ...], role: str) -> tuple[Any, str]:
    """The network of a role from the first of these names, or else from the only state of the role, and its name."""
    found = {name: known for name, state in checkpoint.states.items() if (known := kind(state) or "").endswith(role)}
    name = next((name for name in names if name in found), None)
    if name is None and found:
        checkpoint.only(lambda state: (kind(state) or "").endswith(role))
        (name,) = found
    return (None, "") if name is None else (_CONVERTERS[found[name]](checkpoint.states[name]), name)


def convert(checkpoint: Checkpoint, options: Options | None) -> Networks:
    """The networks of a file, the averaged generator where there is one."""
    if "Faster-GNGAN" in map(kind, checkpoint.states.values()):
        raise InputError(
            "this is a checkpoint of Faster-GNGAN, which scales its weights in another parametrization (weight_raw, "
            "weight_scale); only GNGAN-PyTorch can be converted"
        )
    generator, name = _pick(checkpoint, tuple(_GENERATORS), "generator")
    discriminator, _ = _pick(checkpoint, ("net_D",), "discriminator")
    weights, notes = _GENERATORS.get(name, ONLY_WEIGHTS), (_RAW,) if discriminator is not None else ()
    return Networks(generator, discriminator, generator_weights=weights, notes=notes)
