"""Li-CFG on LSUN at 64 pixels: a ResNet trained by functional gradient learning."""

from ..models import SNGANDiscriminator, SNGANGenerator
from .licfg_mnist import QUICKSTART as DCGAN_QUICKSTART
from .networks import gan_build
from .recipe import Recipe
from .stages import COMPONENT, XICFG, card, staged
from .texts import citation

COMPONENTS = {"generator": SNGANGenerator, "discriminator": SNGANDiscriminator, **COMPONENT}
BUILD = gan_build(SNGANGenerator, SNGANDiscriminator, conditional=False)
CARD = card(
    ["sngan"],
    "A ResNet generator trained by functional gradient learning (Li-CFG).",
    citation("licfg", "cfg"),
    ["The networks are mimicry's ResNet for 64 pixels in place of the reference's own (resnet4)."],
)
CHURCH = {
    **XICFG,
    "data": "lsun-church",
    "image_size": 64,
    "generator.latent_dim": 100,
    "functional_gradient.step_size": 2.5,
}
QUICKSTART = {name: value for name, value in DCGAN_QUICKSTART.items() if name != "discriminator.batch_norm"}

RECIPE = Recipe(
    name="licfg_lsun",
    title="Li-CFG on LSUN",
    components=COMPONENTS,
    build=BUILD,
    presets={"church": CHURCH, "bedroom": {**CHURCH, "data": "lsun-bedroom"}, "quickstart": QUICKSTART},
    generator_step=staged,
    card=CARD,
)
