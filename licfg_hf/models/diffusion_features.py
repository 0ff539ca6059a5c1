"""A critic on the features of a diffusion model, as adversarial distillation uses it."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention, AttnProcessor
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor, nn

from ..objective.weights import refresh_power_iterations
from ..text import first_line
from .base import Discriminator, register_model
from .heads import HeadName, MultiScaleHead
from .sizes import require_depth, require_positive

_BLOCKS = ("DownBlock2D", "AttnDownBlock2D")
# What a U-Net's config may differ in without changing the features of its encoder.
_NOT_OF_THE_ENCODER = {"sample_size", "out_channels", "up_block_types", "upsample_type"}

# google/ddpm-cifar10-32, the network of DDPM (Ho, Jain, Abbeel, 2020) for CIFAR-10: 35.7 million parameters.
DDPM_CIFAR10 = {
    "sample_size": 32,
    "in_channels": 3,
    "out_channels": 3,
    "freq_shift": 1,
    "flip_sin_to_cos": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [128, 256, 256, 256],
    "layers_per_block": 2,
    "downsample_padding": 0,
    "attention_head_dim": None,
    "norm_eps": 1e-6,
}


def _encoder_settings(unet: UNet2DModel) -> dict[str, Any]:
    """What decides the features, with JSON's types."""
    settings = {name: value for name, value in unet.config.items() if name[0] != "_"}
    return json.loads(json.dumps({name: settings[name] for name in settings.keys() - _NOT_OF_THE_ENCODER}))


def build_unet(unet_config: dict[str, Any]) -> UNet2DModel:
    """A U-Net whose encoder has the blocks that give features; a ValueError if the config is not of such a one."""
    settings = {name: value for name, value in unet_config.items() if name[0] != "_"}
    widths = settings.get("block_out_channels")
    if not widths:
        raise ValueError("unet_config names no block_out_channels: without them a UNet2DModel is a very large one")
    try:
        require_depth(layers_per_block=settings.get("layers_per_block", 1), block_out_channels=len(widths))
        require_positive(widest_block=max(widths), narrowest_block=min(widths))
        unet = UNet2DModel(**settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"unet_config is not that of a UNet2DModel: {first_line(error)}") from error
    unfit = sorted(set(unet.config["down_block_types"]) - set(_BLOCKS))
    if unfit:
        raise ValueError(f"the features are those of {' and '.join(_BLOCKS)}, not of {', '.join(unfit)}")
    if unet.class_embedding is not None:
        raise ValueError(
            "a class-conditional U-Net gives no features of images alone: unet_config has a class embedding"
        )
    return unet


class _Encoder(nn.Module):
    """The first half of a ``UNet2DModel``: images -> features of every resolution, and of the middle block."""

    def __init__(self, unet: UNet2DModel):
        super().__init__()
        self.centers_input = unet.config["center_input_sample"]
        self.conv_in, self.down_blocks, self.mid_block = unet.conv_in, unet.down_blocks, unet.mid_block
        self.time_proj, self.time_embedding = unet.time_proj, unet.time_embedding
        for layer in self.modules():
            if isinstance(layer, Attention):
                layer.set_processor(AttnProcessor())  # plain matrix products: the fused ones differentiate only once
        self.layers = unet.config["layers_per_block"]
        widths = list(unet.config["block_out_channels"])
        middle = [] if self.mid_block is None else widths[-1:]
        self.channels = widths + middle
        self.halvings = list(range(len(widths)))[::-1] + [0] * len(middle)

    def forward(self, images: Tensor, timestep: int) -> list[Tensor]:
        if self.centers_input:
            images = 2 * images - 1
        time = self.time_proj(torch.full((len(images),), timestep, device=images.device))
        time = self.time_embedding(time.to(self.conv_in.weight.dtype))
        hidden, levels = self.conv_in(images), []
        for block in self.down_blocks:
            hidden, states = block(hidden, time)
            levels.append(states[self.layers - 1])  # what the downsampling, if any, is applied to
        return levels if self.mid_block is None else [*levels, self.mid_block(hidden, time)]


@register_model
class DiffusionDiscriminator(Discriminator):
    """Images -> logits, by a multi-scale head on the features of a diffusers ``UNet2DModel`` at one timestep.

    The idea of adversarial distillation (ADD, Sauer et al., 2023; LADD, Sauer et al., 2024): a diffusion model knows
    images at every scale, so the critic of a few-step student needs only small heads on it. LADD judges noised
    latents at random timesteps; here the images are judged as they are, at one timestep.

    A new discriminator has a random U-Net: ``load_trunk`` brings trained weights. Frozen, it stays in eval mode, and
    normalizers of weights act on the head alone (k bounds the head as a function of the features); trainable, it is
    normalized with the head. Its attention is made of plain matrix products, which differentiate twice.

    Args:
        unet_config: config of a ``UNet2DModel`` with ``DownBlock2D`` and ``AttnDownBlock2D``; DDPM's for CIFAR-10 by
            default. Only the half that encodes is built.
        feature_timestep: the timestep that the U-Net is told; 0 stands for an image with hardly any noise.
        trainable_trunk: whether the U-Net is trained with the head.
        num_classes: number of classes, for conditional heads.
        head_type: ``linear``, ``projection`` or ``auxiliary``; None takes ``projection`` where there are classes.
        normalizers: see ``Discriminator``.

    Raises:
        ValueError: ``unet_config`` is no such config, or another argument is outside its range.
    """

    @register_to_config
    def __init__(
        self,
        unet_config: dict[str, Any] = DDPM_CIFAR10,
        feature_timestep: int = 0,
        trainable_trunk: bool = False,
        num_classes: int | None = None,
        head_type: HeadName | None = None,
        normalizers: tuple[dict[str, Any], ...] = (),
    ):
        super().__init__()
        if feature_timestep < 0:
            raise ValueError(f"feature_timestep is at least 0, not {feature_timestep}")
        self.trunk = _Encoder(build_unet(unet_config))
        self.head = MultiScaleHead(self.trunk.channels, num_classes, head_type, self.trunk.halvings)
        self.requires_grad_(True)
        self.train()
        self.add_normalizers(normalizers)

    @property
    def frozen_parts(self) -> list[nn.Module]:
        return [] if self.config["trainable_trunk"] else [self.trunk]

    def load_trunk(self, source: UNet2DModel | str | Path, subfolder: str | None = None) -> None:
        """Takes the weights of a ``UNet2DModel``: of the model, or of a folder or repository on the Hub that holds it.

        Raises:
            ValueError: there is no such model, it is another network than ``unet_config``, or its file lacks weights.
        """
        unet = source if isinstance(source, UNet2DModel) else load_unet(source, subfolder)
        with init_empty_weights():
            own = _encoder_settings(build_unet(self.config["unet_config"]))
        other = _encoder_settings(unet)
        if name := next((name for name in sorted(own) if own[name] != other[name]), None):
            raise ValueError(f"that U-Net is not the one of unet_config: its {name} is {other[name]}, not {own[name]}")
        stored = unet.state_dict()
        plain = {name: name.replace("parametrizations.weight.original", "weight") for name in self.trunk.state_dict()}
        state = {name: stored[original] for name, original in plain.items() if original in stored}
        self.trunk.load_state_dict(state, strict=False)  # what stays are power-iteration vectors
        refresh_power_iterations(self.trunk)

    def features(self, images: Tensor) -> list[Tensor]:
        return self.trunk(images, self.config["feature_timestep"])


def load_unet(name_or_folder: str | Path, subfolder: str | None = None) -> UNet2DModel:
    """A saved ``UNet2DModel`` with every weight, or a ValueError."""
    try:
        with warnings.catch_warnings():
            # diffusers' own call of the Hub's client, on which a user has no influence.
            warnings.filterwarnings("ignore", message=".*local_dir_use_symlinks")
            loaded: Any = UNet2DModel.from_pretrained(
                str(name_or_folder), subfolder=subfolder, output_loading_info=True, low_cpu_mem_usage=False
            )
        unet, report = loaded
    except Exception as error:  # files, the Hub, the network and unfit configs each raise their own
        raise ValueError(f"{name_or_folder} cannot be loaded as a UNet2DModel: {first_line(error)}") from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ValueError(f"{name_or_folder} lacks {len(missing)} weights of a UNet2DModel, {missing[0]} first")
    return unet
