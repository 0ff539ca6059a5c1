"""Li-CFG on ImageNet at 64 pixels: a ResNet trained by functional gradient learning, without labels."""

from .licfg_lsun import BUILD, CARD, CHURCH, COMPONENTS, QUICKSTART
from .recipe import Recipe
from .stages import staged

RECIPE = Recipe(
    name="licfg_imagenet",
    title="Li-CFG on ImageNet",
    components=COMPONENTS,
    build=BUILD,
    # The settings for LSUN: those of the paper for ImageNet could not be read.
    presets={"imagenet": {**CHURCH, "data": "imagenet"}, "quickstart": QUICKSTART},
    generator_step=staged,
    card=CARD,
)
