"""DDGAN whose discriminator carries the ε-centred gradient penalty, on CelebA-HQ at 256 pixels."""

from .ddgan_eps_cifar import CARD, COMPONENTS
from .ddgan_eps_cifar import PRESETS as CIFAR10_PRESETS
from .ddgan_eps_lsun import CHURCH
from .networks import build_ddgan
from .options import optimizers
from .recipe import Recipe

# README of NVlabs/denoising-diffusion-gan: 8 GPUs x 4 images, 800 epochs of 30,000 faces, two denoising steps, R1
# gamma 2 (weight 1) every 10 steps, replaced by the ε-centred penalty of the same weight.
CELEBAHQ = {
    **CHURCH,
    "data": "celeba-hq",
    "max_steps": 750_000,
    "batch_size": 32,
    **optimizers(2e-4, 1e-4, schedule="cosine", final=1e-5, betas=[0.5, 0.9]),
    "ema_decay": 0.9999,
    "penalty_weight": 1.0,
    "scheduler.num_train_timesteps": 2,
}

RECIPE = Recipe(
    name="ddgan_eps_celebahq",
    title="DDGAN with the ε-centred gradient penalty on CelebA-HQ",
    components=COMPONENTS,
    build=build_ddgan,
    presets={
        "celebahq": CELEBAHQ,
        "quickstart": {**CIFAR10_PRESETS["quickstart"], "scheduler.num_train_timesteps": 2},
    },
    card=CARD,
)
