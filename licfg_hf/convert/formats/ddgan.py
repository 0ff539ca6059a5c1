"""Checkpoints of NVlabs/denoising-diffusion-gan: netG_*.pth, content.pth and discriminators."""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from ...errors import InputError
from ...models import DDGANDiscriminator, DDGANGenerator
from ...schedulers import DDGANScheduler
from ..mapping import ONLY_WEIGHTS, Networks, Source, build, fill, torch_layer, trunk_names, within
from ..reading import Checkpoint, Options, State

EXTRA_TYPES = (argparse.Namespace,)  # the training's arguments in content.pth
_RESNET = {
    "norm1.style": "GroupNorm_0.style",
    "conv1": "Conv_0",
    "time_projection": "Dense_0",
    "norm2.style": "GroupNorm_1.style",
    "conv2": "Conv_1",
    "shortcut": "Conv_2",
}
_ATTENTION = {"norm": "GroupNorm_0", "to_q": "NIN_0", "to_k": "NIN_1", "to_v": "NIN_2", "to_out": "NIN_3"}
_PYRAMID = {"conv": "Conv2d_0"}
_LAYER = {"": ""}
_DISCRIMINATOR = {
    **within("time_mlp", "t_embed.main", {"0": "0", "2": "2"}),
    "conv_in": "start_conv",
    "conv_out": "final_conv",
    "linear_out": "end_linear",
}
_DISCRIMINATOR_BLOCK = {"conv1": "conv1.0", "conv2": "conv2.0", "time_projection": "dense_t1", "shortcut": "skip.0"}


def kind(state: State) -> str | None:
    """``generator``, ``discriminator`` or None."""
    if state.has("all_modules.", "z_transform."):
        return "generator"
    return "discriminator" if state.has("start_conv.", "t_embed.") else None


def _scheduler(options: Options) -> DDGANScheduler:
    """The diffusion; where an option is not there, the reference's default."""
    try:
        return DDGANScheduler(
            num_train_timesteps=options.read("num_timesteps", int, 4),
            beta_min=options.read("beta_min", float, 0.1),
            beta_max=options.read("beta_max", float, 20.0),
            schedule="geometric" if options.read("use_geometric", bool, False) else "vp",
        )
    except ValueError as error:
        raise InputError(f"the diffusion in the config cannot be built: {error}") from error


def _module_order(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """This library's module and its inner names, in the order of the reference's flat ``all_modules`` list."""
    yield "time_mlp.0", _LAYER
    yield "time_mlp.2", _LAYER
    yield "conv_in", _LAYER
    levels, layers = len(config["channel_multipliers"]), config["layers_per_block"]
    sizes = [config["sample_size"] // 2**level for level in range(levels)]
    for level in range(levels):
        for layer in range(layers):
            yield f"down_levels.{level}.resnets.{layer}", _RESNET
            if sizes[level] in config["attention_resolutions"]:
                yield f"down_levels.{level}.attentions.{layer}", _ATTENTION
        if level < levels - 1:
            yield f"down_levels.{level}.downsampler", _RESNET
            yield f"down_levels.{level}.pyramid", _PYRAMID
    yield "mid_resnet1", _RESNET
    yield "mid_attention", _ATTENTION
    yield "mid_resnet2", _RESNET
    for index, level in enumerate(reversed(range(levels))):
        for layer in range(layers + 1):
            yield f"up_levels.{index}.resnets.{layer}", _RESNET
        if sizes[level] in config["attention_resolutions"]:
            yield f"up_levels.{index}.attention", _ATTENTION
        if level:
            yield f"up_levels.{index}.upsampler", _RESNET
    yield "norm_out", _LAYER
    yield "conv_out", _LAYER


def _layer(layer: nn.Module, name: str) -> dict[str, Source]:
    if not name.rpartition(".")[2].startswith("NIN_"):
        return torch_layer(layer, name)
    features_out, features_in = layer.get_parameter("weight").shape
    return {
        "weight": Source({f"{name}.W": (features_in, features_out)}, lambda weight: weight.T),
        "bias": Source({f"{name}.b": (features_out,)}),
    }


def _generator(state: State, options: Options) -> DDGANGenerator:
    # What the published checkpoints do not use cannot be converted.
    options.require(
        resblock_type="biggan",
        progressive="none",
        progressive_input="residual",
        progressive_combine="sum",
        embedding_type="positional",
        fir=True,
        fir_kernel=([1, 3, 3, 1], (1, 3, 3, 1)),
        skip_rescale=True,
        conditional=True,
        centered=True,
        not_use_tanh=False,
    )
    config = {
        "sample_size": options.read("image_size", int),
        "in_channels": options.read("num_channels", int),
        "base_channels": options.read("num_channels_dae", int),
        "channel_multipliers": options.sizes("ch_mult"),
        "layers_per_block": options.read("num_res_blocks", int),
        "attention_resolutions": options.sizes("attn_resolutions"),
        "latent_dim": options.read("nz", int),
        "latent_embedding_dim": options.read("z_emb_dim", int),
        "latent_layers": options.read("n_mlp", int),
        "dropout": options.read("dropout", float, 0.0),
    }
    generator = build(DDGANGenerator, **config)
    names = {f"latent_mapping.{index}": f"z_transform.{index}" for index in range(len(generator.latent_mapping))}
    for index, (module, inside) in enumerate(_module_order(config)):
        names |= within(module, f"all_modules.{index}", inside)
    return fill(generator, state, names, _layer)


def _discriminator(state: State) -> DDGANDiscriminator:
    channels, images, *_ = state.weight_shape("start_conv", 4)
    discriminator = build(
        DDGANDiscriminator,
        in_channels=images // 2,
        base_channels=channels // 2,
        time_embedding_dim=state.weight_shape("t_embed.main.0", 2)[0],
        variant="large" if state.has("conv5.") else "small",
    )
    places = (f"conv{index + 1}" for index in range(len(discriminator.blocks)))
    return fill(discriminator, state, _DISCRIMINATOR | trunk_names(places, _DISCRIMINATOR_BLOCK))


def _averages(content: Mapping[str, Any], state: State) -> State | None:
    """The generator's averaged parameters, which its optimizer keeps in their order; None where it keeps none."""
    optimizer = content.get("optimizerG")
    slots = optimizer.get("state") if isinstance(optimizer, Mapping) else None
    if not isinstance(slots, Mapping) or not all(isinstance(slot, Mapping) for slot in slots.values()):
        return None
    averages = {index: slot["ema"] for index, slot in slots.items() if "ema" in slot}
    if not averages:
        return None
    if sorted(averages, key=str) != sorted(range(len(state)), key=str):
        raise InputError(f"optimizerG averages {len(averages)} parameters, and the generator has {len(state)}")
    return State({key: averages[index] for index, key in enumerate(state)})


def convert(checkpoint: Checkpoint, options: Options | None) -> Networks:
    """The networks of a file, the averaged generator where there is one."""
    roles = set(filter(None, map(kind, checkpoint.states.values())))
    states = {role: checkpoint.only(lambda state, role=role: kind(state) == role) for role in roles}
    critic = _discriminator(states["discriminator"]) if "discriminator" in states else None
    state = states.get("generator")
    if state is None:
        return Networks(discriminator=critic)
    content, weights = checkpoint.content, ONLY_WEIGHTS
    arguments, averages = content.get("args"), _averages(content, state)
    if options is None and isinstance(arguments, argparse.Namespace):
        options = Options(vars(arguments))
    if averages is not None:
        state, weights = averages, "EMA weights (optimizerG)"
    elif "optimizerG" in content:  # content.pth, the state of a training
        weights = "trained weights (netG_dict); the file has no EMA"
    if options is None:
        raise InputError(
            "it does not hold the network's options: pass --config FILE.json with the reference's image_size, "
            "num_channels, num_channels_dae, ch_mult, num_res_blocks, attn_resolutions, nz, z_emb_dim, n_mlp, "
            "num_timesteps, beta_min, beta_max and use_geometric"
        )
    return Networks(_generator(state, options), critic, _scheduler(options), weights, options.used)
