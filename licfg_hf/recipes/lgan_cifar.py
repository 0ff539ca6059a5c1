"""Lipschitz GANs: every phi with the maximum gradient penalty (MaxGP), and WGAN-GP, on CIFAR-10."""

from ..models import SNGANDiscriminator, SNGANGenerator
from .networks import gan_build
from .options import BATCH_NORM, DIGITS, DIGITS_NETWORKS, LONG_RUN, optimizers
from .recipe import Recipe
from .texts import METHODS, citation

# LGANs-for-reproduce: a WGAN-GP-style ResNet with 128 channels throughout.
BASE = {
    "data": "uoft-cs/cifar10",
    "image_size": 32,
    "max_steps": 100_000,
    "batch_size": 64,
    "generator_batch_size": 128,
    "discriminator_steps": 5,
    **optimizers(2e-4, 2e-4, schedule="linear", betas=[0.0, 0.9]),
    "ema_decay": 0.99,
    "penalty": "max",
    "penalty_weight": 0.1,
    "generator.base_channels": 128,
    **BATCH_NORM,
    **LONG_RUN,
}
_PHI = ("sqrt", "linear", "log_sigmoid", "exp", "square")

RECIPE = Recipe(
    name="lgan_cifar",
    title="Lipschitz GAN with MaxGP",
    components={"generator": SNGANGenerator, "discriminator": SNGANDiscriminator},
    build=gan_build(SNGANGenerator, SNGANDiscriminator, conditional=False),
    presets={
        **{phi.replace("_", "-"): {**BASE, "loss": f"lgan_{phi}"} for phi in _PHI},
        "wgan-gp": {**BASE, "loss": "wasserstein", "penalty": "one_centered", "penalty_weight": 10.0},
        "quickstart": {
            **DIGITS,
            **DIGITS_NETWORKS,
            **BATCH_NORM,
            "max_steps": 1000,
            "discriminator_steps": 2,
            **optimizers(1e-3, 1e-3, betas=[0.0, 0.9]),
            "ema_decay": 0.99,
            "loss": "lgan_sqrt",
            "penalty": "max",
            "penalty_weight": 0.1,
            "generator.latent_dim": 32,
        },
    },
    card={
        "tags": ["lgan"],
        "summary": "A Lipschitz GAN (Zhou et al., ICML 2019): a convex, increasing phi on the critic, whose largest "
        "gradient is penalized.",
        "methods": METHODS,
        "citation": citation("lgan"),
        "notes": ["MaxGP takes the maximum over the batch of one process, so the number of processes matters."],
    },
)
