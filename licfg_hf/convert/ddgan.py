"""Checkpoints of the public DDGAN implementation (NVlabs/denoising-diffusion-gan) -> this library's networks."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

_RESNET = {
    "GroupNorm_0": "norm1",
    "Conv_0": "conv1",
    "Dense_0": "time_projection",
    "GroupNorm_1": "norm2",
    "Conv_1": "conv2",
    "Conv_2": "shortcut",
}
_ATTENTION = {"GroupNorm_0": "norm", "NIN_0": "to_q", "NIN_1": "to_k", "NIN_2": "to_v", "NIN_3": "to_out"}
_DISCRIMINATOR = {
    "t_embed.main": "time_mlp",
    "start_conv": "conv_in",
    "final_conv": "conv_out",
    "end_linear": "linear_out",
}
_DISCRIMINATOR_BLOCK = {"conv1.0": "conv1", "conv2.0": "conv2", "dense_t1": "time_projection", "skip.0": "shortcut"}


def generator_config(options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``DDGANGenerator`` from the reference's options (the golden's ``config``, or its saved ``args``).

    Raises:
        ValueError: an option asks for something that the published checkpoints do not use.
    """
    fixed = {
        "resblock_type": "biggan",
        "progressive": "none",
        "progressive_input": "residual",
        "progressive_combine": "sum",
        "embedding_type": "positional",
        "fir": True,
        "skip_rescale": True,
        "conditional": True,
        "centered": True,
        "not_use_tanh": False,
    }
    for name, value in fixed.items():
        if options.get(name, value) != value:
            raise ValueError(f"only {name}={value!r} can be converted, this checkpoint has {options[name]!r}")
    return {
        "sample_size": options["image_size"],
        "in_channels": options["num_channels"],
        "base_channels": options["num_channels_dae"],
        "channel_multipliers": tuple(options["ch_mult"]),
        "layers_per_block": options["num_res_blocks"],
        "attention_resolutions": tuple(options["attn_resolutions"]),
        "latent_dim": options["nz"],
        "latent_embedding_dim": options["z_emb_dim"],
        "latent_layers": options["n_mlp"],
        "dropout": options.get("dropout", 0.0),
    }


def _module_order(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """This library's module and its inner names, in the order of the reference's flat ``all_modules`` list."""
    yield "time_mlp.0", {}
    yield "time_mlp.2", {}
    yield "conv_in", {}
    levels, layers = len(config["channel_multipliers"]), config["layers_per_block"]
    sizes = [config["sample_size"] // 2**level for level in range(levels)]
    for level in range(levels):
        for layer in range(layers):
            yield f"down_levels.{level}.resnets.{layer}", _RESNET
            if sizes[level] in config["attention_resolutions"]:
                yield f"down_levels.{level}.attentions.{layer}", _ATTENTION
        if level < levels - 1:
            yield f"down_levels.{level}.downsampler", _RESNET
            yield f"down_levels.{level}.pyramid", {"Conv2d_0": "conv"}
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
    yield "norm_out", {}
    yield "conv_out", {}


def _strip_data_parallel(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix("module."): value for key, value in state.items()}


def convert_generator(state: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """State dict of ``DDGANGenerator(**config)`` from the reference's generator weights.

    Keys that belong to no module are kept as they are, so that a strict ``load_state_dict`` names them.

    Args:
        state: the reference's state dict, with or without the ``module.`` prefix.
        config: arguments of ``DDGANGenerator`` (see ``generator_config``).
    """
    modules = list(_module_order(config))
    converted = {}
    for key, value in _strip_data_parallel(state).items():
        if match := re.fullmatch(r"z_transform\.(.+)", key):
            converted[f"latent_mapping.{match[1]}"] = value
        elif (match := re.fullmatch(r"all_modules\.(\d+)\.(.+)", key)) and int(match[1]) < len(modules):
            module, names = modules[int(match[1])]
            inner, _, rest = match[2].partition(".")
            if re.fullmatch(r"NIN_\d", inner):
                rest = {"W": "weight", "b": "bias"}[rest]
                value = value.T.contiguous() if value.ndim == 2 else value  # stored (in, out), linear is (out, in)
            parts = [module, names.get(inner, inner), rest]
            converted[".".join(part for part in parts if part)] = value
        else:
            converted[key] = value
    return converted


def discriminator_config(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Arguments of ``DDGANDiscriminator``, read off the shapes of the reference's weights.

    Raises:
        ValueError: the keys are not those of a DDGAN discriminator.
    """
    state = _strip_data_parallel(state)
    try:
        start = state["start_conv.weight"]
        time = state["t_embed.main.0.weight"]
    except KeyError as error:
        raise ValueError(f"not a DDGAN discriminator: key {error} is missing") from None
    return {
        "in_channels": start.shape[1] // 2,
        "base_channels": start.shape[0] // 2,
        "time_embedding_dim": time.shape[0],
        "variant": "large" if "conv5.dense_t1.weight" in state else "small",
    }


def convert_discriminator(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """State dict of ``DDGANDiscriminator`` from the reference's discriminator weights (either variant)."""
    converted = {}
    for key, value in _strip_data_parallel(state).items():
        module, _, leaf = key.rpartition(".")
        if match := re.fullmatch(r"conv(\d+)\.(.+)", module):
            module = f"blocks.{int(match[1]) - 1}.{_DISCRIMINATOR_BLOCK.get(match[2], match[2])}"
        else:
            for theirs, ours in _DISCRIMINATOR.items():
                module = re.sub(rf"^{re.escape(theirs)}(?=\.|$)", ours, module)
        converted[f"{module}.{leaf}"] = value
    return converted
