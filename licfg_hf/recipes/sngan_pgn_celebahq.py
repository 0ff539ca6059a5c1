"""SNGAN's ResNet with PGN, GN, spectral normalization or WGAN-GP, on CelebA-HQ at 128 and 256 pixels."""

from .options import BATCH_NORM, GN_CONSISTENCY, LONG_RUN, optimizers
from .recipe import Recipe
from .sngan_pgn_cifar import ARMS, BUILD, CARD, COMPONENTS, QUICKSTART

# GNGAN-PyTorch's settings, which the PGN paper takes over.
BASE = {
    "data": "celeba-hq",
    "max_steps": 100_000,
    "batch_size": 64,
    "discriminator_steps": 5,
    **optimizers(2e-4, 2e-4, betas=[0.0, 0.9]),
    "ema_decay": 0.9999,
    "ema_start": 10_000,
    "loss": "hinge",
    "penalty": "none",
    **BATCH_NORM,
    **LONG_RUN,
    "sample_count": 16,
}

ALL_ARMS = {**ARMS, **{f"{name}-cr": {**arm, **GN_CONSISTENCY} for name, arm in ARMS.items() if name != "wgan-gp"}}

RECIPE = Recipe(
    name="sngan_pgn_celebahq",
    title="SNGAN with penalty gradient normalization on CelebA-HQ",
    components=COMPONENTS,
    build=BUILD,
    presets={
        **{
            f"{size}-{name}": {**BASE, "image_size": size, **arm}
            for size in (128, 256)
            for name, arm in ALL_ARMS.items()
        },
        "quickstart": QUICKSTART,
    },
    card=CARD,
)
