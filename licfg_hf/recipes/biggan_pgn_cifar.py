"""BigGAN with gradient normalization (GN) or penalty gradient normalization (PGN), on CIFAR-10."""

from ..models import BigGANDiscriminator, BigGANGenerator
from .biggan_eps_cifar import CARD, COMPONENTS, QUICKSTART
from .networks import gan_build
from .options import BATCH_NORM, GN_CONSISTENCY, LONG_RUN, optimizers
from .recipe import Recipe
from .texts import citation

# GNGAN-PyTorch and the PGN paper: hinge loss on the normalized critic, Xavier initialization, four discriminator
# updates on 50 images each per step.
BASE = {
    "data": "uoft-cs/cifar10",
    "image_size": 32,
    "horizontal_flip": True,
    "max_steps": 125_000,
    "batch_size": 50,
    "discriminator_steps": 4,
    **optimizers(1e-4, 2e-4, betas=[0.0, 0.999]),
    "ema_decay": 0.9999,
    "ema_start": 1000,
    "loss": "hinge",
    "penalty": "none",
    "generator.initialization": "xavier",
    "discriminator.initialization": "xavier",
    **BATCH_NORM,
    **LONG_RUN,
}
PGN = {**BASE, "normalizer": "penalty_gradient"}
GN = {**BASE, "normalizer": "gradient"}

RECIPE = Recipe(
    name="biggan_pgn_cifar",
    title="BigGAN with penalty gradient normalization",
    components=COMPONENTS,
    build=gan_build(BigGANGenerator, BigGANDiscriminator, conditional=True),
    presets={
        "pgn-cr": {**PGN, **GN_CONSISTENCY},
        "pgn": PGN,
        "gn-cr": {**GN, **GN_CONSISTENCY},
        "gn": GN,
        "sn": {**BASE, "normalizer": "spectral"},
        "quickstart": {
            **QUICKSTART,
            "penalty": "none",
            "normalizer": "penalty_gradient",
            "normalizer_formula": "norm",
        },
    },
    card={**CARD, "citation": citation("biggan", "gn", "pgn")},
)
