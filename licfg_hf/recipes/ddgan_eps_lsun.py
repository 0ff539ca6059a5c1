"""DDGAN whose discriminator carries the ε-centred gradient penalty, on LSUN at 256 pixels."""

from .ddgan_eps_cifar import CARD, COMPONENTS
from .ddgan_eps_cifar import PRESETS as CIFAR10_PRESETS
from .networks import build_ddgan
from .options import LONG_RUN, optimizers
from .recipe import Recipe

# The networks for 256 pixels (39,726,979 and 27,737,217 parameters).
NETWORKS_256 = {
    "generator.base_channels": 64,
    "generator.channel_multipliers": [1, 1, 2, 2, 4, 4],
    "generator.latent_layers": 3,
    "discriminator.variant": "large",
}
# README of NVlabs/denoising-diffusion-gan: 8 GPUs x 8 images, 500 epochs of 126,227 churches, R1 gamma 1 (weight 0.5)
# every 10 steps, replaced by the ε-centred penalty of the same weight.
CHURCH = {
    "data": "lsun-church",
    "image_size": 256,
    "horizontal_flip": True,
    "max_steps": 986_000,
    "batch_size": 64,
    **optimizers(1.6e-4, 1e-4, schedule="cosine", final=1e-5, betas=[0.5, 0.9]),
    "ema_decay": 0.999,
    "penalty": "eps_centered",
    "penalty_weight": 0.5,
    "penalty_interval": 10,
    **NETWORKS_256,
    **LONG_RUN,
    "sample_count": 16,
}

RECIPE = Recipe(
    name="ddgan_eps_lsun",
    title="DDGAN with the ε-centred gradient penalty on LSUN",
    components=COMPONENTS,
    build=build_ddgan,
    presets={
        "church": CHURCH,
        "bedroom": {**CHURCH, "data": "lsun-bedroom"},  # not among DDGAN's published settings
        "quickstart": {**CIFAR10_PRESETS["quickstart"], "scheduler.num_train_timesteps": 4},
    },
    card=CARD,
)
