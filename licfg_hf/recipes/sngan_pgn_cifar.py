"""SNGAN's CNN and ResNet with PGN, GN, spectral normalization or WGAN-GP, with and without CR, on CIFAR-10."""

from typing import Any

from ..models import SNGANDiscriminator, SNGANGenerator
from .networks import gan_build
from .options import BATCH_NORM, DIGITS, DIGITS_NETWORKS, GN_CONSISTENCY, LONG_RUN, optimizers
from .recipe import Recipe
from .texts import METHODS, citation

_BASE = {
    "max_steps": 200_000,
    "batch_size": 64,
    "generator_batch_size": 128,
    "ema_decay": 0.9999,
    "penalty": "none",
    **BATCH_NORM,
    **LONG_RUN,
}
# GNGAN-PyTorch's settings, which the PGN paper takes over.
CNN = {
    **_BASE,
    **optimizers(2e-4, 2e-4, betas=[0.0, 0.9]),
    "loss": "non_saturating",
    "generator.architecture": "cnn",
    "discriminator.architecture": "cnn",
}
RESNET = {
    **_BASE,
    "discriminator_steps": 5,
    **optimizers(2e-4, 4e-4, schedule="linear", betas=[0.0, 0.9]),
    "loss": "hinge",
}
# What each arm of the papers' tables changes. WGAN-GP keeps the other settings of its architecture.
ARMS = {
    "pgn": {"normalizer": "penalty_gradient"},
    "gn": {"normalizer": "gradient"},
    "sn": {"normalizer": "spectral"},
    "wgan-gp": {"loss": "wasserstein", "penalty": "one_centered", "penalty_weight": 10.0},
}


def arms(architectures: dict[str, dict[str, Any]], data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Presets ``ARCHITECTURE-ARM`` and, but for WGAN-GP, ``ARCHITECTURE-ARM-cr``, the ResNet's PGN with CR first."""
    presets = {}
    for architecture, settings in architectures.items():
        for name, arm in ARMS.items():
            plain = {**data, **settings, **arm}
            if name != "wgan-gp":
                presets[f"{architecture}-{name}-cr"] = {**plain, **GN_CONSISTENCY}
            presets[f"{architecture}-{name}"] = plain
        # Algorithm 1 of the PGN paper: the mean difference halved, instead of the loss that its text and code name.
        halved = {"loss": "wasserstein", "loss_weight": 0.5, "normalizer": "penalty_gradient"}
        presets[f"{architecture}-pgn-algorithm1"] = {**data, **settings, **halved}
    return presets


QUICKSTART = {
    **DIGITS,
    **DIGITS_NETWORKS,
    **BATCH_NORM,
    "max_steps": 1000,
    "discriminator_steps": 2,
    **optimizers(1e-3, 2e-3, betas=[0.0, 0.9]),
    "ema_decay": 0.99,
    "loss": "hinge",
    "penalty": "none",
    # The published formula is nearly a fixed squash at this width; that of the proof normalizes.
    "normalizer": "penalty_gradient",
    "normalizer_formula": "norm",
    "generator.latent_dim": 32,
}
COMPONENTS = {"generator": SNGANGenerator, "discriminator": SNGANDiscriminator}
CARD = {
    "tags": ["sngan"],
    "summary": "An unconditional GAN with the networks of SNGAN (Miyato et al., ICLR 2018) as in GNGAN-PyTorch.",
    "methods": METHODS,
    "citation": citation("sngan", "gn", "pgn"),
}
BUILD = gan_build(SNGANGenerator, SNGANDiscriminator, conditional=False)

RECIPE = Recipe(
    name="sngan_pgn_cifar",
    title="SNGAN with penalty gradient normalization",
    components=COMPONENTS,
    build=BUILD,
    presets={
        **arms({"resnet": RESNET, "cnn": CNN}, {"data": "uoft-cs/cifar10", "image_size": 32}),
        "quickstart": QUICKSTART,
    },
    card=CARD,
)
