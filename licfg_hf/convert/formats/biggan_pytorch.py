"""Checkpoints of ajbrock/BigGAN-PyTorch: G.pth, G_ema.pth and D.pth of BigGAN and BigGAN-deep."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from ...errors import InputError
from ...models import BigGANDeepDiscriminator, BigGANDeepGenerator, BigGANDiscriminator, BigGANGenerator
from ..mapping import Network, Source, build, each, fill, indices, own_entries, torch_layer, within
from ..networks import Networks
from ..reading import Checkpoint, Options, State

_ITERATIONS = (
    "BigGAN-PyTorch takes a power iteration in every pass, also in eval mode: eval outputs are the reference's, "
    "training goes on one iteration ahead of it."
)
_AVERAGES = (
    "BigGAN-PyTorch keeps its averaged generator in G_ema.pth and the trained one in G.pth; this folder has the "
    "weights of the file that was named."
)
_NORM = {"norm": "", "gain": "gain", "bias": "bias"}
_GENERATOR_BLOCK = {
    **{f"conv{i}": f"conv{i}" for i in range(1, 5)},
    **{our: their for i in range(1, 5) for our, their in within(f"norm{i}", f"bn{i}", _NORM).items()},
    "shortcut": "conv_sc",
}
_DISCRIMINATOR_BLOCK = {**{f"conv{i}": f"conv{i}" for i in range(1, 5)}, "shortcut": "conv_sc"}
_ATTENTION = {"": "", "theta": "theta", "phi": "phi", "g": "g", "o": "o"}
_GENERATOR = {
    "class_embedding": "shared",
    "linear_in": "linear",
    "norm_out": "output_layer.0",
    "conv_out": "output_layer.2",
}
_DISCRIMINATOR = {"conv_in": "input_conv", "head.linear": "linear", "head.embedding": "embed"}
_STATISTICS = {"running_mean": "stored_mean", "running_var": "stored_var", "weight": "gain", "bias": "bias"}


def kind(state: State) -> str | None:
    """``generator`` or ``discriminator``, by the keys; None for foreign ones."""
    if not any(key.endswith(".u0") for key in state):
        return None
    return "generator" if any(key.startswith("output_layer.") for key in state) else "discriminator"


def _right_vector(weight: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    # An average of unit vectors is none; an iteration from it is the reference's all the same.
    return F.normalize(F.normalize(u.flatten(), dim=0) @ weight.flatten(1), dim=0)


def _left_vector(weight: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    return F.normalize(weight.flatten(1) @ _right_vector(weight, u), dim=0)


def _layer(layer: nn.Module, name: str) -> dict[str, Source]:
    """Reads a layer; normalized ones keep u of the last training pass, so its next iteration gives our vectors."""
    entries = own_entries(layer)
    if isinstance(layer, nn.BatchNorm2d):
        read = {our: Source({f"{name}.{_STATISTICS[our]}": shape}) for our, shape in _shapes(entries).items()}
        return read | {"num_batches_tracked": Source({}, lambda: torch.zeros((), dtype=torch.int64))}
    if not parametrize.is_parametrized(layer, "weight"):
        return torch_layer(layer, name)
    shape = tuple(entries["parametrizations.weight.original"].shape)
    pair = {f"{name}.weight": shape, f"{name}.u0": (1, shape[0])}
    read = {
        "parametrizations.weight.original": Source({f"{name}.weight": shape}),
        "parametrizations.weight.0.u": Source(pair, _left_vector),
        "parametrizations.weight.0.v": Source(pair, _right_vector),
    }
    return read | ({"bias": Source({f"{name}.bias": tuple(entries["bias"].shape)})} if "bias" in entries else {})


def _shapes(entries: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in entries.items() if name in _STATISTICS}


def _fill(network: Network, state: State, names: dict[str, str]) -> Network:
    return fill(network, state, names, _layer, ignored=r".*\.sv0")


def _attention(options: Options, name: str) -> tuple[int, ...]:
    """Resolutions as the reference writes them: ``"0"`` for none, ``"64"``, ``"32_64"``."""
    text = options.read(name, str)
    if not all(part.isdecimal() for part in text.split("_")):
        raise InputError(f"{name} of the config names resolutions as 64 or 32_64 (0 for none), not {text!r}")
    return tuple(int(part) for part in text.split("_") if int(part))


def _positive(options: Options, name: str) -> int:
    value = options.read(name, int)
    if value < 1:
        raise InputError(f"{name} of the config is at least 1, not {value}")
    return value


def _require_published(options: Options, network: str) -> None:
    relu = {f"{network}_nl": ("relu", "inplace_relu")}
    options.require(
        BN_eps=1e-5, norm_style="bn", num_G_SVs=1, num_D_SVs=1, num_G_SV_itrs=1, num_D_SV_itrs=1,
        **relu, **{f"{network}_param": "SN", f"{network}_kernel_size": 3},
    )  # fmt: skip


def _sizes(options: Options, network: str) -> dict[str, Any]:
    return {
        "sample_size": _positive(options, "resolution"),
        "num_classes": _positive(options, "n_classes"),
        "base_channels": _positive(options, f"{network}_ch"),
        "attention_resolutions": _attention(options, f"{network}_attn"),
    }


def _generator(state: State, options: Options, deep: bool) -> BigGANDeepGenerator | BigGANGenerator:
    if deep:
        options.require(G_depth=2, G_shared=True, hier=True)
    shared, hierarchical = deep or options.read("G_shared", bool), deep or options.read("hier", bool)
    if hierarchical and not shared:
        raise InputError(
            "cannot convert hier=true with G_shared=false: hierarchical latents need a shared class embedding"
        )
    latent_dim = _positive(options, "dim_z")
    shared_dim = (options.read("shared_dim", int) or latent_dim) if shared else None
    sizes = {"shared_dim": shared_dim, **_sizes(options, "G")}
    if deep:
        generator = build(BigGANDeepGenerator, latent_dim=latent_dim, **sizes)
    else:
        if hierarchical:  # rounded down to equal parts for the first layer and each block
            parts = len(indices(state, r"blocks\.(\d+)\.")) + 1
            latent_dim = latent_dim // parts * parts
        generator = build(BigGANGenerator, latent_dim=latent_dim, hierarchical=hierarchical, **sizes)
    places = {index: f"blocks.{index}.0" for index in range(len(generator.blocks))}
    after = {index: f"blocks.{index}.1" for index in generator.attentions}
    names = _GENERATOR | each("blocks", places, _GENERATOR_BLOCK) | each("attentions", after, _ATTENTION)
    return _fill(generator, state, names)


def _discriminator(state: State, options: Options, deep: bool) -> BigGANDeepDiscriminator | BigGANDiscriminator:
    sizes = _sizes(options, "D")
    if deep:  # blocks come in pairs, with attention after the second one
        options.require(D_depth=2)
        discriminator = build(BigGANDeepDiscriminator, **sizes)
        places = {index: f"blocks.{index // 2}.{index % 2}" for index in range(len(discriminator.blocks))}
        after = {index: f"blocks.{int(index) // 2}.2" for index in discriminator.attentions}
    else:
        if sizes["sample_size"] == 32:  # the reference's table calls every block's output 16 pixels wide
            if 16 in sizes["attention_resolutions"]:
                raise InputError(
                    "cannot convert D_attn=16 at 32 pixels: the reference then has attention after every block"
                )
            sizes["attention_resolutions"] = ()
        discriminator = build(BigGANDiscriminator, wide=options.read("D_wide", bool, True), **sizes)
        places = {index: f"blocks.{index}.0" for index in range(len(discriminator.blocks))}
        after = {index: f"blocks.{index}.1" for index in discriminator.attentions}
    names = _DISCRIMINATOR | each("blocks", places, _DISCRIMINATOR_BLOCK) | each("attentions", after, _ATTENTION)
    return _fill(discriminator, state, names)


def convert(checkpoint: Checkpoint, options: Options | None) -> Networks:
    """The network of a file; generator or discriminator, BigGAN or BigGAN-deep follows from the keys.

    Raises:
        InputError: an option is missing or cannot be honoured, or the keys do not fit.
    """
    state = checkpoint.only(kind)
    letter = "G" if kind(state) == "generator" else "D"
    if options is None:
        wanted = "dim_z, G_shared, shared_dim, hier, " if letter == "G" else ""
        raise InputError(
            f"it does not hold the network's options: pass --config FILE.json with resolution, n_classes, {wanted}"
            f"{letter}_ch and {letter}_attn (and D_wide, {letter}_depth where they were set)"
        )
    _require_published(options, letter)
    deep = any(key.endswith(".conv3.weight") for key in state)
    if letter == "G":
        generator = _generator(state, options, deep)
        return Networks(generator=generator, options=options.used, notes=(_AVERAGES, _ITERATIONS))
    discriminator = _discriminator(state, options, deep)
    return Networks(discriminator=discriminator, options=options.used, notes=(_ITERATIONS,))
