"""Everything of this library that can be opened from a repository, small enough for a test."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import SchedulerMixin
from gans import DISCRIMINATORS, GENERATORS
from tiny import tiny_discriminator, tiny_generator
from torch import nn

import licfg_hf
from licfg_hf import DDGANPipeline, DDGANScheduler, DiffusionDiscriminator, GANPipeline, load, load_flow
from licfg_hf.objective.functional_gradient import FunctionalGradientFlow
from licfg_hf.pipelines.flow import save_flow

UNET = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 8,
}
# Networks of their own, each in the folder of its class; timm's features, which are large, are left out.
PARTS: dict[str, Callable[[], Any]] = {
    "BigGANDeepDiscriminator": DISCRIMINATORS["biggan_deep"],
    "BigGANDeepGenerator": GENERATORS["biggan_deep"],
    "BigGANDiscriminator": DISCRIMINATORS["biggan"],
    "BigGANGenerator": GENERATORS["biggan"],
    "DCGANDiscriminator": DISCRIMINATORS["dcgan"],
    "DCGANGenerator": GENERATORS["dcgan"],
    "DDGANDiscriminator": tiny_discriminator,
    "DDGANGenerator": tiny_generator,
    "DDGANScheduler": lambda: DDGANScheduler(num_train_timesteps=3),
    "DiffusionDiscriminator": lambda: DiffusionDiscriminator(unet_config=UNET),
    "SNGANDiscriminator": DISCRIMINATORS["sngan_resnet"],
    "SNGANGenerator": GENERATORS["sngan_resnet"],
}


@dataclass(frozen=True)
class Opener:
    """A way to open something.

    Attributes:
        repository: ``ddgan`` or ``gan`` (pipelines, with their flows) or ``parts``.
        open: called with a folder or a repository, and ``revision`` and ``token`` for the latter.
    """

    repository: str
    open: Callable[..., Any]


OPENERS = {
    "DDGANPipeline": Opener("ddgan", DDGANPipeline.from_pretrained),
    "GANPipeline": Opener("gan", GANPipeline.from_pretrained),
    "load DDGAN": Opener("ddgan", load),
    "load GAN": Opener("gan", load),
    "load_flow DDGAN": Opener("ddgan", load_flow),
    "load_flow GAN": Opener("gan", load_flow),
    **{
        name: Opener("parts", partial(getattr(licfg_hf, name).from_pretrained, subfolder=f"networks/{name}"))
        for name in PARTS
    },
}
REPOSITORIES = ("ddgan", "gan", "parts")


def build(folder: Path, noise: float) -> None:
    """Writes the three repositories.

    Args:
        noise: added to every weight, so that two of them differ.
    """
    torch.manual_seed(0)
    DDGANPipeline(_noisy(tiny_generator(), noise), DDGANScheduler()).save_pretrained(folder / "ddgan")
    GANPipeline(_noisy(GENERATORS["biggan"](), noise)).save_pretrained(folder / "gan")
    for name, critic in (("ddgan", tiny_discriminator()), ("gan", DISCRIMINATORS["sngan_resnet"]())):
        save_flow(folder / name / "flow", FunctionalGradientFlow([]), critic, [_noisy(critic, noise).state_dict()])
    for name, make in PARTS.items():
        part = make()
        _noisy(part, noise) if isinstance(part, nn.Module) else part.register_to_config(beta_min=0.1 + noise)
        part.save_pretrained(folder / "parts" / "networks" / name)


def _noisy(network: nn.Module, noise: float) -> nn.Module:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(noise)
    return network.eval()


def fingerprint(opened: Any) -> str:
    """Tells two opened things apart by their weights or settings."""
    if isinstance(opened, SchedulerMixin):
        settings = {name: value for name, value in opened.config.items() if name[0] != "_"}
        return hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()
    networks = getattr(opened, "discriminators", None) or [getattr(opened, "components", {"": opened})]
    networks = list(networks[0].values()) if isinstance(networks[0], dict) else networks
    digest = hashlib.sha256()
    for network in networks:
        for tensor in network.state_dict().values() if isinstance(network, nn.Module) else ():
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
