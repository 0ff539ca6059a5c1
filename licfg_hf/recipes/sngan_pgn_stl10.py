"""SNGAN's CNN and ResNet with PGN, GN, spectral normalization or WGAN-GP, with and without CR, on STL-10 (48 px)."""

from .recipe import Recipe
from .sngan_pgn_cifar import BUILD, CARD, CNN, COMPONENTS, QUICKSTART, RESNET, arms

RECIPE = Recipe(
    name="sngan_pgn_stl10",
    title="SNGAN with penalty gradient normalization on STL-10",
    components=COMPONENTS,
    build=BUILD,
    presets={
        **arms({"resnet": RESNET, "cnn": CNN}, {"data": "stl10", "image_size": 48}),
        # Three resolutions, as the 48-pixel networks have more than those for CIFAR-10.
        "quickstart": {
            **QUICKSTART,
            "generator.channel_multipliers": [4, 2, 1],
            "discriminator.channel_multipliers": [1, 2, 4],
            "discriminator.halvings": 2,
            "generator.base_channels": 16,
            "discriminator.base_channels": 16,
        },
    },
    card=CARD,
)
