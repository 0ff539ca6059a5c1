"""Generators and discriminators, as diffusers models."""

from .biggan import BigGANDiscriminator, BigGANGenerator
from .biggan_deep import BigGANDeepDiscriminator, BigGANDeepGenerator
from .dcgan import DCGANDiscriminator, DCGANGenerator
from .ddgan import DDGANDiscriminator, DDGANGenerator
from .diffusion_features import DiffusionDiscriminator
from .discriminator import Discriminator
from .outputs import DiscriminatorOutput, GeneratorOutput
from .projected import ProjectedDiscriminator
from .sngan import SNGANDiscriminator, SNGANGenerator

__all__ = [
    "BigGANDeepDiscriminator",
    "BigGANDeepGenerator",
    "BigGANDiscriminator",
    "BigGANGenerator",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "DDGANDiscriminator",
    "DDGANGenerator",
    "DiffusionDiscriminator",
    "Discriminator",
    "DiscriminatorOutput",
    "GeneratorOutput",
    "ProjectedDiscriminator",
    "SNGANDiscriminator",
    "SNGANGenerator",
]
