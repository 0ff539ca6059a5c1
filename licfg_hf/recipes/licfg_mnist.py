"""Li-CFG on MNIST: a DCGAN trained by functional gradient learning, its discriminator ε-centred penalized."""

from ..models import DCGANDiscriminator, DCGANGenerator
from .networks import gan_build
from .options import DIGITS, DIGITS_NETWORKS, optimizers
from .recipe import Recipe
from .stages import COMPONENT, XICFG, card, staged
from .texts import citation

COMPONENTS = {"generator": DCGANGenerator, "discriminator": DCGANDiscriminator, **COMPONENT}
BUILD = gan_build(DCGANGenerator, DCGANDiscriminator, conditional=False)
CARD = card(["dcgan"], "A DCGAN trained by functional gradient learning (Li-CFG).", citation("licfg", "cfg"))

# The authors' network for 32 pixels in grey: three doublings, 32 channels as the unit.
MNIST = {
    **XICFG,
    "data": "mnist",
    "image_size": 32,  # whatever --data is; the digits have 28
    "generator.latent_dim": 100,
    "generator.base_channels": 32,
    "discriminator.base_channels": 32,
    "discriminator.batch_norm": False,
    "functional_gradient.step_size": 2.5,
}
# 16 pixels and a quarter of the channels, so that a CPU affords it.
MNIST_SMALL = {
    **MNIST,
    "image_size": 16,
    "max_steps": 1500,
    **optimizers(1e-3, 1e-3, name="rmsprop", alpha=0.95, eps=1e-18),
    "generator.channel_multipliers": [4, 2],
    "generator.base_channels": 16,
    "discriminator.channel_multipliers": [1, 2, 4],
    "discriminator.base_channels": 16,
    "checkpoint_every": 300,
    "sample_every": 300,
    "log_every": 30,
    "evaluate_samples": 1000,
}
QUICKSTART = {
    **XICFG,
    **DIGITS,
    **DIGITS_NETWORKS,
    "generator_batch_size": 640,
    "max_steps": 1500,
    "discriminator_steps": 2,
    **optimizers(1e-3, 1e-3, name="rmsprop", alpha=0.95, eps=1e-18),
    "generator.latent_dim": 32,
    "discriminator.batch_norm": False,
    "functional_gradient.step_size": 2.5,
}

RECIPE = Recipe(
    name="licfg_mnist",
    title="Li-CFG on MNIST",
    components=COMPONENTS,
    build=BUILD,
    presets={"mnist": MNIST, "mnist-small": MNIST_SMALL, "quickstart": QUICKSTART},
    generator_step=staged,
    card=CARD,
)
