"""Generators and discriminators, as diffusers models."""

from .ddgan import DDGANDiscriminator, DDGANGenerator
from .outputs import DiscriminatorOutput, GeneratorOutput

__all__ = ["DDGANDiscriminator", "DDGANGenerator", "DiscriminatorOutput", "GeneratorOutput"]
