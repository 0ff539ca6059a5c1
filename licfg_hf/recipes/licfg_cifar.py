"""Li-CFG on CIFAR-10: a DCGAN trained by functional gradient learning."""

from .licfg_mnist import BUILD, CARD, COMPONENTS, QUICKSTART
from .recipe import Recipe
from .stages import XICFG, staged

RECIPE = Recipe(
    name="licfg_cifar",
    title="Li-CFG on CIFAR-10",
    components=COMPONENTS,
    build=BUILD,
    presets={
        # The reference has the step size of its networks for SVHN here, too.
        "cifar10": {
            **XICFG,
            "data": "cifar10",
            "image_size": 32,
            "generator.latent_dim": 100,
            "discriminator.batch_norm": False,
            "functional_gradient.step_size": 0.5,
        },
        "quickstart": QUICKSTART,
    },
    generator_step=staged,
    card=CARD,
)
