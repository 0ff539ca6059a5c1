"""Li-CFG with DDGAN on CIFAR-10: denoising steps trained by functional gradient learning, not by minimax."""

from .ddgan_eps_cifar import COMPONENTS, PRESETS
from .networks import build_ddgan
from .options import optimizers
from .recipe import Recipe
from .stages import COMPONENT, XICFG, card, staged
from .texts import citation

# Example command of Li-CFG's diffusion code: stages of 15 steps, pools of 15 batches, noise after each step, Adam.
# There the penalty comes at every 15th stage, at each of its updates; here at every 15th update.
CIFAR10 = {
    **XICFG,
    "data": "cifar10",
    "horizontal_flip": True,
    "generator_batch_size": 960,
    **optimizers(1.6e-4, 1.25e-4, betas=[0.5, 0.9], eps=1e-18),
    "penalty_weight": 0.01,
    "penalty_interval": 15,
    "functional_gradient.step_size": 1.0,
    "functional_gradient.noise": 0.01,
    "functional_gradient.initial_scale": None,
}

RECIPE = Recipe(
    name="licfg_ddgan_cifar",
    title="Li-CFG with DDGAN",
    components={**COMPONENTS, **COMPONENT},
    build=build_ddgan,
    presets={
        "cifar10": CIFAR10,
        "quickstart": {
            **PRESETS["quickstart"],
            "max_steps": 500,
            "discriminator_steps": 2,
            "generator_batch_size": 320,
            **optimizers(1e-3, 1e-3, betas=[0.0, 0.9]),
            "ema_decay": None,
            "penalty_interval": 1,
            "penalty_weight": 0.05,
            "functional_gradient.steps": 5,
            "functional_gradient.epochs": 3,
            "functional_gradient.step_size": 2.0,
            "functional_gradient.noise": 0.01,
            "functional_gradient.initial_scale": None,
        },
    },
    generator_step=staged,
    card=card(
        ["ddgan"],
        "A denoising diffusion GAN whose steps were trained by functional gradient learning (Li-CFG).",
        citation("ddgan", "licfg", "cfg"),
        [
            "The discriminator's minibatch-stddev layer couples samples, so its input gradient is not purely "
            "per-sample; this is as in the reference."
        ],
    ),
)
