"""A few-step student trained against a discriminator on the features of a diffusion model's U-Net."""

from dataclasses import dataclass
from typing import Literal

from diffusers import UNet2DModel

from ..data import ImageSet
from ..models import DiffusionDiscriminator
from ..models.diffusion_features import build_unet, load_unet
from ..schedulers import DDGANScheduler
from ..training import DistillationTask
from .networks import Arguments, built, square_size
from .options import DIGITS, LONG_RUN, optimizers
from .recipe import Recipe
from .texts import METHODS, citation
from .trunks import RANDOM, announce_random


@dataclass(frozen=True)
class Trunk:
    """The diffusion model whose features the discriminator sees.

    Args:
        weights: folder or repository on the Hub of a ``UNet2DModel`` with ``discriminator.unet_config``, or
            ``random``.
        subfolder: where the model lies in it, such as ``unet``; None for the top.
    """

    weights: str = RANDOM
    subfolder: str | None = None


@dataclass(frozen=True)
class Student:
    """The network that learns to denoise in few steps; it has the trunk's architecture, decoder included.

    Args:
        init: ``random``, or ``trunk`` for the diffusion model's own weights.
    """

    init: Literal["random", "trunk"] = "random"


def build(images: ImageSet, arguments: Arguments) -> tuple[UNet2DModel, DiffusionDiscriminator, DistillationTask]:
    """The networks and the task for images of this shape."""
    size, channels = square_size(images), images.shape[0]
    options = dict(arguments["discriminator"])
    unet_config = {
        **options.pop("unet_config"),
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels,
    }
    student = built(build_unet, unet_config=unet_config)
    discriminator = built(DiffusionDiscriminator, unet_config=unet_config, normalizers=(), **options)
    trunk, start = Trunk(**arguments["trunk"]), Student(**arguments["student"])
    if trunk.weights != RANDOM:
        unet = load_unet(trunk.weights, trunk.subfolder)
        discriminator.load_trunk(unet)
        if start.init == "trunk":
            student.load_state_dict(unet.state_dict())
    elif start.init == "trunk":
        raise ValueError("--student.init trunk needs a trained diffusion model: pass --trunk.weights")
    else:
        announce_random("the discriminator's trunk", "--trunk.weights")
    return student, discriminator, DistillationTask(DDGANScheduler(**arguments["scheduler"]), latent_dim=None)


# No paper has these settings; each is ours. The diffusion model and its architecture are those of DDPM for CIFAR-10.
CIFAR10 = {
    "data": "uoft-cs/cifar10",
    "image_size": 32,
    "horizontal_flip": True,
    "max_steps": 100_000,
    "batch_size": 64,
    **optimizers(1e-4, 2e-4, schedule="cosine", final=1e-5, betas=[0.0, 0.99]),
    "ema_decay": 0.999,
    "loss": "hinge",
    "penalty": "eps_centered",
    "penalty_weight": 0.01,
    "penalty_interval": 4,
    "trunk.weights": "google/ddpm-cifar10-32",
    "student.init": "trunk",
    **LONG_RUN,
}

RECIPE = Recipe(
    name="distill_diffusion",
    title="Few-step student against the features of a diffusion model",
    components={
        "student": Student,
        "trunk": Trunk,
        "discriminator": DiffusionDiscriminator,
        "scheduler": DDGANScheduler,
    },
    build=build,
    presets={
        "cifar10": CIFAR10,
        # Offline: a small U-Net that was never trained, so nothing is distilled.
        "quickstart": {
            **DIGITS,
            "max_steps": 1000,
            **optimizers(1e-3, 2e-3, schedule="cosine", final=1e-5, betas=[0.0, 0.99]),
            "ema_decay": 0.99,
            "loss": "hinge",
            "penalty": "eps_centered",
            "penalty_weight": 0.01,
            "penalty_interval": 4,
            "trunk.weights": RANDOM,
            "discriminator.unet_config": {
                "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
                "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
                "block_out_channels": [16, 32],
                "layers_per_block": 1,
                "norm_num_groups": 8,
                "attention_head_dim": 8,
            },
            "scheduler.num_train_timesteps": 3,
            "scheduler.beta_max": 9.0,
        },
    },
    card={
        "tags": ["distillation", "ddgan"],
        "summary": "A U-Net that turns noise into an image in a few steps, trained against a discriminator on the "
        "features of a diffusion model (the idea of adversarial diffusion distillation).",
        "methods": METHODS,
        "citation": citation("ddgan")
        + """
@misc{sauer2023adversarial,
  title={Adversarial Diffusion Distillation},
  author={Sauer, Axel and Lorenz, Dominik and Blattmann, Andreas and Rombach, Robin},
  eprint={2311.17042}, archivePrefix={arXiv}, year={2023}}
@misc{sauer2024fast,
  title={Fast High-Resolution Image Synthesis with Latent Adversarial Diffusion Distillation},
  author={Sauer, Axel and Boesel, Frederic and Dockhorn, Tim and Blattmann, Andreas and Esser, Patrick and Rombach,
    Robin},
  eprint={2403.12015}, archivePrefix={arXiv}, year={2024}}""",
        "notes": [
            "No paper has these settings. The published methods also train on the teacher's own predictions or "
            "images; here the loss is the adversarial one alone, on real images.",
            "Where the setting `trunk.weights` is `random`, as in the quickstart, the discriminator's features are "
            "those of a U-Net that was never trained, and nothing is distilled.",
            "Where `student.init` is `trunk`, the student starts from weights that predict noise at a thousand "
            "timesteps and learns to predict images at a few: it keeps the features, not the function.",
        ],
    },
)
