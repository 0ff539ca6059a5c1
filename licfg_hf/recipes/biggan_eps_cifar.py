"""BigGAN whose discriminator carries the ε-centred gradient penalty, on CIFAR-10."""

from ..models import BigGANDiscriminator, BigGANGenerator
from .networks import gan_build
from .options import BATCH_NORM, DIGITS, DIGITS_NETWORKS, LONG_RUN, optimizers
from .recipe import Recipe
from .texts import METHODS, citation

# launch_cifar_ema.sh of ajbrock/BigGAN-PyTorch: 500 epochs, four discriminator updates on 50 images each per step. The
# ε-centred penalty beside its hinge loss and spectral normalization is ours, weight included.
CIFAR10 = {
    "data": "uoft-cs/cifar10",
    "image_size": 32,
    "max_steps": 125_000,
    "batch_size": 50,
    "discriminator_steps": 4,
    **optimizers(2e-4, 2e-4, betas=[0.0, 0.999], eps=1e-8),
    "ema_decay": 0.9999,
    "ema_start": 1000,
    "loss": "hinge",
    "penalty": "eps_centered",
    "penalty_weight": 0.01,
    "normalizer": "spectral",
    **BATCH_NORM,
    **LONG_RUN,
}
COMPONENTS = {"generator": BigGANGenerator, "discriminator": BigGANDiscriminator}
CARD = {
    "tags": ["biggan"],
    "summary": "A class-conditional BigGAN (Brock, Donahue, Simonyan, ICLR 2019).",
    "methods": METHODS,
    "citation": citation("biggan", "licfg"),
    "notes": ["A generated image was trained with the label of the real image beside it in the batch."],
}
QUICKSTART = {
    **DIGITS,
    **DIGITS_NETWORKS,
    **BATCH_NORM,
    "max_steps": 1000,
    "discriminator_steps": 2,
    **optimizers(1e-3, 1e-3, betas=[0.0, 0.9]),
    "ema_decay": 0.99,
    "loss": "hinge",
    "normalizer": "spectral",
    "generator.latent_dim": 32,
}

RECIPE = Recipe(
    name="biggan_eps_cifar",
    title="BigGAN with the ε-centred gradient penalty",
    components=COMPONENTS,
    build=gan_build(BigGANGenerator, BigGANDiscriminator, conditional=True),
    presets={
        "cifar10": CIFAR10,
        "cifar10-small": {
            **CIFAR10,
            "max_steps": 50_000,
            "generator.base_channels": 16,
            "discriminator.base_channels": 16,
            "ema_decay": 0.999,
        },
        "quickstart": {**QUICKSTART, "penalty": "eps_centered", "penalty_weight": 0.1},
    },
    card=CARD,
)
