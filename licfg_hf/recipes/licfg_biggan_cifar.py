"""Li-CFG with BigGAN on CIFAR-10: its networks, trained by functional gradient learning instead of its hinge game."""

from ..models import BigGANDiscriminator, BigGANGenerator
from .biggan_eps_cifar import COMPONENTS, QUICKSTART
from .networks import gan_build
from .options import optimizers
from .recipe import Recipe
from .stages import COMPONENT, XICFG, card, staged
from .texts import citation

# Li-CFG's code: stages of one step, learning rates 5e-5 and 2e-4, spectral normalization. Its step size for BigGAN is
# not known; this one is that of its other networks for CIFAR-10.
CIFAR10 = {
    **XICFG,
    "data": "cifar10",
    "max_steps": 10_000,
    **optimizers(5e-5, 2e-4, name="rmsprop", alpha=0.95, eps=1e-18),
    "normalizer": "spectral",
    "functional_gradient.steps": 1,
    "functional_gradient.step_size": 0.5,
    "checkpoint_every": 200,
    "sample_every": 200,
}

RECIPE = Recipe(
    name="licfg_biggan_cifar",
    title="Li-CFG with BigGAN",
    components={**COMPONENTS, **COMPONENT},
    build=gan_build(BigGANGenerator, BigGANDiscriminator, conditional=True),
    presets={
        "cifar10": CIFAR10,
        "quickstart": {
            **QUICKSTART,
            "max_steps": 600,
            "loss": "non_saturating",
            "ema_decay": None,
            "standing_batches": None,
            "generator_batch_size": 640,
            **optimizers(1e-3, 1e-3, name="rmsprop", alpha=0.95, eps=1e-18),
            "penalty": "eps_centered",
            "penalty_weight": 0.1,
            "functional_gradient.steps": 5,
            "functional_gradient.epochs": 3,
            "functional_gradient.step_size": 0.5,
        },
    },
    generator_step=staged,
    card=card(
        ["biggan"],
        "A class-conditional BigGAN trained by functional gradient learning (Li-CFG).",
        citation("biggan", "licfg", "cfg"),
        ["A generated image was trained with the label of the real image beside it in the batch."],
    ),
)
