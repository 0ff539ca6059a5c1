"""Checkpoints of ajbrock/BigGAN-PyTorch: G.pth, G_ema.pth and D.pth of BigGAN and BigGAN-deep."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ...errors import InputError
from ...models import BigGANDeepDiscriminator, BigGANDeepGenerator, BigGANDiscriminator, BigGANGenerator
from ..mapping import Networks, Source, build, fill, torch_layer, trunk_names, within
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
_DISCRIMINATOR_BLOCK = {**{f"conv{i}": f"conv{i}" for i in range(1, 5)}, "shortcut": "conv_sc"}
_GENERATOR_BLOCK = {
    **_DISCRIMINATOR_BLOCK,
    **{our: their for i in range(1, 5) for our, their in within(f"norm{i}", f"bn{i}", _NORM).items()},
}
_ATTENTION = {name: name for name in ("", "theta", "phi", "g", "o")}
_GENERATOR = {
    "class_embedding": "shared",
    "linear_in": "linear",
    "norm_out": "output_layer.0",
    "conv_out": "output_layer.2",
}
_DISCRIMINATOR = {"conv_in": "input_conv", "head.linear": "linear", "head.embedding": "embed"}
_STATISTICS = {"running_mean": "stored_mean", "running_var": "stored_var", "weight": "gain", "bias": "bias"}


def kind(state: State) -> str | None:
    """``generator``, ``discriminator`` or None."""
    if not any(key.endswith(".u0") for key in state):
        return None
    return "generator" if state.has("output_layer.") else "discriminator"


def _right_vector(weight: Tensor, u: Tensor) -> Tensor:
    # An average of unit vectors is none; an iteration from it is the reference's all the same.
    return F.normalize(F.normalize(u.flatten(), dim=0) @ weight.flatten(1), dim=0)


def _left_vector(weight: Tensor, u: Tensor) -> Tensor:
    return F.normalize(weight.flatten(1) @ _right_vector(weight, u), dim=0)


def _layer(layer: nn.Module, name: str) -> dict[str, Source]:
    """Reads a layer; normalized ones keep u of the last training pass, so its next iteration gives our vectors."""
    if isinstance(layer, nn.BatchNorm2d):
        entries = {our: value for our, value in layer.state_dict().items() if our in _STATISTICS}
        read = {our: Source({f"{name}.{_STATISTICS[our]}": tuple(value.shape)}) for our, value in entries.items()}
        return read | {"num_batches_tracked": Source({}, lambda: torch.zeros((), dtype=torch.int64))}
    sources = torch_layer(layer, name)
    if parametrize.is_parametrized(layer, "weight"):
        original = "parametrizations.weight.original"
        (shape,) = sources[original].keys.values()
        pair = {f"{name}.weight": shape, f"{name}.u0": (1, shape[0])}
        sources |= {
            original: Source({f"{name}.weight": shape}),
            "parametrizations.weight.0.u": Source(pair, _left_vector),
            "parametrizations.weight.0.v": Source(pair, _right_vector),
        }
    return sources


_fill = partial(fill, read=_layer, ignored=r".*\.sv0")


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


def _sizes(options: Options, network: str) -> dict[str, Any]:
    """What both players' networks have, after a look at what cannot be converted."""
    relu = {f"{network}_nl": ("relu", "inplace_relu")}
    options.require(
        BN_eps=1e-5, norm_style="bn", num_G_SVs=1, num_D_SVs=1, num_G_SV_itrs=1, num_D_SV_itrs=1,
        **relu, **{f"{network}_param": "SN", f"{network}_kernel_size": 3},
    )  # fmt: skip
    return {
        "sample_size": _positive(options, "resolution"),
        "num_classes": _positive(options, "n_classes"),
        "base_channels": _positive(options, f"{network}_ch"),
        "attention_resolutions": _attention(options, f"{network}_attn"),
    }


def _generator(state: State, options: Options, deep: bool) -> BigGANDeepGenerator | BigGANGenerator:
    sizes = _sizes(options, "G")
    if deep:
        options.require(G_depth=2, G_shared=True, hier=True)
    shared, hierarchical = deep or options.read("G_shared", bool), deep or options.read("hier", bool)
    if hierarchical and not shared:
        raise InputError(
            "cannot convert hier=true with G_shared=false: hierarchical latents need a shared class embedding"
        )
    latent_dim = _positive(options, "dim_z")
    sizes["shared_dim"] = (options.read("shared_dim", int) or latent_dim) if shared else None
    if deep:
        generator = build(BigGANDeepGenerator, latent_dim=latent_dim, **sizes)
    else:
        if hierarchical:  # rounded down to equal parts for the first layer and each block
            parts = len(state.indices(r"blocks\.(\d+)\.")) + 1
            latent_dim = latent_dim // parts * parts
        generator = build(BigGANGenerator, latent_dim=latent_dim, hierarchical=hierarchical, **sizes)
    blocks = (f"blocks.{index}.0" for index in range(len(generator.blocks)))
    attentions = {index: f"blocks.{index}.1" for index in generator.attentions}
    return _fill(generator, state, _GENERATOR | trunk_names(blocks, _GENERATOR_BLOCK, attentions, _ATTENTION))


def _discriminator(state: State, options: Options, deep: bool) -> BigGANDeepDiscriminator | BigGANDiscriminator:
    sizes = _sizes(options, "D")
    if deep:  # blocks come in pairs, with attention after the second one
        options.require(D_depth=2)
        discriminator = build(BigGANDeepDiscriminator, **sizes)
        blocks = (f"blocks.{index // 2}.{index % 2}" for index in range(len(discriminator.blocks)))
        attentions = {index: f"blocks.{int(index) // 2}.2" for index in discriminator.attentions}
    else:
        if sizes["sample_size"] == 32:  # the reference's table calls every block's output 16 pixels wide
            if 16 in sizes["attention_resolutions"]:
                raise InputError(
                    "cannot convert D_attn=16 at 32 pixels: the reference then has attention after every block"
                )
            sizes["attention_resolutions"] = ()
        discriminator = build(BigGANDiscriminator, wide=options.read("D_wide", bool, True), **sizes)
        blocks = (f"blocks.{index}.0" for index in range(len(discriminator.blocks)))
        attentions = {index: f"blocks.{index}.1" for index in discriminator.attentions}
    names = _DISCRIMINATOR | trunk_names(blocks, _DISCRIMINATOR_BLOCK, attentions, _ATTENTION)
    return _fill(discriminator, state, names)


def convert(checkpoint: Checkpoint, options: Options | None) -> Networks:
    """The network of a file; generator or discriminator, BigGAN or BigGAN-deep follows from the keys."""
    state = checkpoint.only(kind)
    is_generator = kind(state) == "generator"
    if options is None:
        letter, wanted = ("G", "dim_z, G_shared, shared_dim, hier, ") if is_generator else ("D", "")
        raise InputError(
            f"it does not hold the network's options: pass --config FILE.json with resolution, n_classes, {wanted}"
            f"{letter}_ch and {letter}_attn (and D_wide, {letter}_depth where they were set)"
        )
    deep = any(key.endswith(".conv3.weight") for key in state)
    if is_generator:
        return Networks(_generator(state, options, deep), options=options.used, notes=(_AVERAGES, _ITERATIONS))
    critic = _discriminator(state, options, deep)
    return Networks(discriminator=critic, options=options.used, notes=(_ITERATIONS,))
