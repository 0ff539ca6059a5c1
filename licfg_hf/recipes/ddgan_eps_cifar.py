"""DDGAN whose discriminator carries the ε-centred gradient penalty, on CIFAR-10."""

from ..models import DDGANDiscriminator, DDGANGenerator
from ..schedulers import DDGANScheduler
from .networks import build_ddgan
from .options import LONG_RUN, optimizers
from .recipe import Recipe
from .texts import METHODS, citation

# README of NVlabs/denoising-diffusion-gan: 4 GPUs x 64 images, 1800 epochs of 195 steps; its R1 term (gamma 0.02, i.e.
# weight 0.01, every 15 steps, not multiplied) is replaced by the ε-centred one. There the learning rate falls once an
# epoch, here every step.
CIFAR10 = {
    "data": "uoft-cs/cifar10",
    "image_size": 32,
    "horizontal_flip": True,
    "max_steps": 351_000,
    "batch_size": 256,
    **optimizers(1.6e-4, 1.25e-4, schedule="cosine", final=1e-5, betas=[0.5, 0.9]),
    "ema_decay": 0.9999,
    "penalty": "eps_centered",
    "penalty_weight": 0.01,
    "penalty_scale": 0.1,
    "penalty_interval": 15,
    **LONG_RUN,
}

PRESETS = {
    "cifar10": CIFAR10,
    "cifar10-small": {
        **CIFAR10,
        "max_steps": 100_000,
        "batch_size": 64,
        "ema_decay": 0.999,
        "generator.base_channels": 32,
        "discriminator.base_channels": 16,
        "checkpoint_every": 1000,
        "sample_every": 1000,
        "log_every": 10,
    },
    # Tuned for precision and recall within minutes on one CPU core: more denoising steps and a heavier penalty raise
    # recall at the cost of precision, a narrower discriminator affords more training steps.
    "quickstart": {
        "data": "digits",
        "max_steps": 1400,
        "batch_size": 64,
        **optimizers(1e-3, 2e-3, schedule="cosine", final=1e-5, betas=[0.0, 0.9], fused=True),
        # while the critic is still flat, a larger eps keeps Adam from blowing its tiny gradients up to full steps
        "generator_optimizer.arguments": {"betas": [0.0, 0.9], "fused": True, "eps": 1e-4},
        "ema_decay": 0.996,
        "penalty": "eps_centered",
        "penalty_weight": 0.015,
        "penalty_scale": 0.1,
        "penalty_interval": 4,
        "generator.base_channels": 16,
        "generator.channel_multipliers": [1, 2],
        "generator.layers_per_block": 1,
        "generator.attention_resolutions": [],
        "generator.latent_dim": 32,
        "generator.latent_embedding_dim": 64,
        "generator.latent_layers": 2,
        "discriminator.base_channels": 8,
        "discriminator.time_embedding_dim": 64,
        "scheduler.num_train_timesteps": 3,
        "scheduler.beta_max": 9.0,
        "checkpoint_every": 200,
        "sample_every": 200,
        "log_every": 20,
        "evaluate_samples": 1000,
    },
}

COMPONENTS = {"generator": DDGANGenerator, "discriminator": DDGANDiscriminator, "scheduler": DDGANScheduler}

CARD = {
    "tags": ["ddgan"],
    "summary": "A denoising diffusion GAN (Xiao, Kreis, Vahdat, ICLR 2022): it turns noise into an image in a few "
    "large steps, and a generator that was trained against a discriminator takes each of them.",
    "methods": {
        **METHODS,
        "eps_centered": "The ε-centred penalty of Li-CFG (arXiv 2501.11236) is "
        "`weight * mean ||grad D - eps * 1||^2` with `eps = sqrt(scale / d)`, taken with respect to x_t at "
        "interpolates between the real and the generated x_t. Its place in DDGAN's discriminator step is this "
        "library's port, and so is its weight: the paper's weight is not known to us. `--penalty r1` trains the "
        "baseline without it, DDGAN's own R1 term.",
        "r1": "`weight * mean ||grad D||^2` with respect to the real x_t is DDGAN's own R1 term, where the weight "
        "is gamma / 2.",
    },
    "citation": citation("ddgan", "licfg"),
    "notes": [
        "The discriminator's minibatch-stddev layer couples samples, so the penalised gradient is not purely "
        "per-sample; this is as in the reference."
    ],
}

RECIPE = Recipe(
    name="ddgan_eps_cifar",
    title="DDGAN with the ε-centred gradient penalty",
    components=COMPONENTS,
    build=build_ddgan,
    presets=PRESETS,
    card=CARD,
)
