"""Generators and discriminators, as diffusers models."""

from .biggan import BigGANDiscriminator, BigGANGenerator
from .biggan_deep import BigGANDeepDiscriminator, BigGANDeepGenerator
from .dcgan import DCGANDiscriminator, DCGANGenerator
from .ddgan import DDGANDiscriminator, DDGANGenerator
from .discriminator import Discriminator
from .outputs import DiscriminatorOutput, GeneratorOutput
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
    "Discriminator",
    "DiscriminatorOutput",
    "GeneratorOutput",
    "SNGANDiscriminator",
    "SNGANGenerator",
]
