"""Generators and discriminators, as diffusers models: one file each, with ``@register_model`` on its classes.

A new file needs no line here: it is imported with the others. Lines here are for editors and type checkers.
"""
# ruff: noqa: F401

from importlib import import_module
from pkgutil import iter_modules

from .base import REGISTERED, Discriminator, DiscriminatorOutput, Generator, GeneratorOutput, register_model
from .biggan import BigGANDiscriminator, BigGANGenerator
from .biggan_deep import BigGANDeepDiscriminator, BigGANDeepGenerator
from .dcgan import DCGANDiscriminator, DCGANGenerator
from .ddgan import DDGANDiscriminator, DDGANGenerator
from .diffusion_features import DiffusionDiscriminator
from .lgan import LGANDiscriminator, LGANGenerator
from .projected import ProjectedDiscriminator
from .sngan import SNGANDiscriminator, SNGANGenerator

for _file in iter_modules(__path__):
    import_module(f".{_file.name}", __name__)
_networks = {name: network for name, network in REGISTERED.items() if network.__module__.startswith(f"{__name__}.")}
globals().update(_networks)
__all__ = ["Discriminator", "DiscriminatorOutput", "Generator", "GeneratorOutput", "register_model"]
__all__ += sorted(_networks)  # pyright: ignore[reportUnsupportedDunderAll]
