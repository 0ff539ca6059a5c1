"""A projected GAN on CIFAR-10: a discriminator on the features of a frozen, pretrained timm network."""

from dataclasses import dataclass

from ..data import ImageSet
from ..models import ProjectedDiscriminator, SNGANGenerator
from ..training import GANTask
from .networks import Arguments, built, square_size
from .options import BATCH_NORM, DIGITS, LONG_RUN, optimizers
from .recipe import Recipe
from .texts import METHODS
from .trunks import RANDOM, announce_random


@dataclass(frozen=True)
class Backbone:
    """The weights of the discriminator's feature network.

    Args:
        weights: ``timm`` (pretrained ones, downloaded where they are not in the cache), a safetensors or PyTorch file
            of them, or ``random``.
    """

    weights: str = "timm"


def build(images: ImageSet, arguments: Arguments) -> tuple[SNGANGenerator, ProjectedDiscriminator, GANTask]:
    """The networks and the task of an unconditional projected GAN for images of this shape."""
    size, channels = square_size(images), images.shape[0]
    generator = built(SNGANGenerator, sample_size=size, out_channels=channels, **arguments["generator"])
    discriminator = ProjectedDiscriminator(in_channels=channels, normalizers=(), **arguments["discriminator"])
    backbone = Backbone(**arguments["backbone"])
    if backbone.weights == RANDOM:
        announce_random("the discriminator's backbone", "--backbone.weights")
    else:
        discriminator.load_backbone(backbone.weights)
    return generator, discriminator, GANTask(generator.latent_dim)


# The settings that autonomousvision/projected-gan has for FastGAN: hinge loss, spectral normalization, learning rates,
# betas, mirroring, half-life of the average (20,000 images at 64 a step). CIFAR-10, the generator and the length (ten
# million images) are ours.
CIFAR10 = {
    "data": "uoft-cs/cifar10",
    "image_size": 32,
    "horizontal_flip": True,
    "max_steps": 156_250,
    "batch_size": 64,
    **optimizers(2e-4, 2e-4, betas=[0.0, 0.99], eps=1e-8),
    "ema_decay": 0.5 ** (64 / 20_000),
    "loss": "hinge",
    "penalty": "none",
    "normalizer": "spectral",
    **BATCH_NORM,
    **LONG_RUN,
}

RECIPE = Recipe(
    name="projected_gan_cifar",
    title="Projected GAN",
    components={"generator": SNGANGenerator, "discriminator": ProjectedDiscriminator, "backbone": Backbone},
    build=build,
    presets={
        "cifar10": CIFAR10,
        # Offline: a small backbone that was never trained. Random features make a critic, but not a good one.
        "quickstart": {
            **DIGITS,
            **BATCH_NORM,
            "max_steps": 1000,
            **optimizers(1e-3, 2e-3, betas=[0.0, 0.99]),
            "ema_decay": 0.99,
            "loss": "hinge",
            "penalty": "none",
            "normalizer": "spectral",
            "generator.base_channels": 32,
            "generator.channel_multipliers": [2, 1],
            "generator.latent_dim": 32,
            "backbone.weights": RANDOM,
            "discriminator.backbone": "test_efficientnet",
            "discriminator.out_indices": [1, 2],
            "discriminator.backbone_size": 32,
            "discriminator.mixing_channels": 16,
            "discriminator.augmentation": [],
        },
    },
    card={
        "tags": ["projected-gan"],
        "summary": "A GAN whose discriminator is a multi-scale head on the features of a frozen image network (the "
        "projected GAN of Sauer et al., NeurIPS 2021).",
        "methods": METHODS,
        "citation": """@inproceedings{sauer2021projected,
  title={Projected {GANs} Converge Faster},
  author={Sauer, Axel and Chitta, Kashyap and M{\\"u}ller, Jens and Geiger, Andreas},
  booktitle={Advances in Neural Information Processing Systems}, year={2021}}""",
        "notes": [
            "The paper's generator is FastGAN's; this one is SNGAN's ResNet. The paper sums the loss over the "
            "positions of each level's logits and its critics have BatchNorm; here each level gives one value, the "
            "mean over the levels is the critic's, and there is no BatchNorm, so that penalties are per sample.",
            "Where the setting `backbone.weights` is `random`, as in the quickstart, the discriminator's backbone was "
            "never trained: such a run shows that the recipe works, not what a projected GAN can do.",
            "A backbone that was trained on ImageNet brings what it learnt there into the samples and into every "
            "metric whose features were trained on ImageNet, too, such as FID.",
            "Normalizers of weights act on the discriminator's head; the backbone stays as it is.",
        ],
    },
)
