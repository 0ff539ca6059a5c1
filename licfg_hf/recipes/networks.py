"""Builds the networks and the task of a recipe for the images at hand."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..data import ImageSet, number_of_classes
from ..models import DDGANDiscriminator, DDGANGenerator
from ..ranges import require_memory
from ..schedulers import DDGANScheduler
from ..training import DDGANTask, GANTask

Arguments = dict[str, dict[str, Any]]
Build = Callable[[ImageSet, Arguments], tuple[nn.Module, nn.Module, Any]]


def square_size(images: ImageSet) -> int:
    """Height and width of the images.

    Raises:
        ValueError: they differ.
    """
    _, height, width = images.shape
    if height != width:
        raise ValueError(f"the network draws square images and the data has {width}x{height}: pass --image_size")
    return height


def built(network: Callable[..., nn.Module], **arguments: Any) -> nn.Module:
    """A network, first without its weights, so that one that no memory can hold is refused.

    Raises:
        InputError: its weights, gradients and moments would need more than this machine's memory.
    """
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        count = sum(parameter.numel() for parameter in network(**arguments).parameters())
    require_memory(16 * count, f"a {getattr(network, '__name__', 'network')} of {count:,} parameters")
    return network(**arguments)


def gan_build(generator_class: type, discriminator_class: type, conditional: bool) -> Build:
    """How a plain GAN is built: (images, component arguments) -> generator, discriminator, task.

    Args:
        generator_class: takes ``sample_size``, ``out_channels``, ``num_classes``.
        discriminator_class: takes ``sample_size``, ``in_channels``, ``num_classes``, ``normalizers``.
        conditional: whether the networks see the labels of the images.
    """

    def build(images: ImageSet, arguments: Arguments) -> tuple[nn.Module, nn.Module, GANTask]:
        size, channels = square_size(images), images.shape[0]
        classes = number_of_classes(images) if conditional else None
        if conditional and classes is None:
            raise ValueError(
                "this recipe is class-conditional and the data has no labels: pass --label_column, "
                "or have a folder per class"
            )
        generator = built(
            generator_class, sample_size=size, out_channels=channels, num_classes=classes, **arguments["generator"]
        )
        discriminator = built(
            discriminator_class,
            sample_size=size,
            in_channels=channels,
            num_classes=classes,
            normalizers=(),
            **arguments["discriminator"],
        )
        return generator, discriminator, GANTask(generator.latent_dim, classes)

    return build


def build_ddgan(images: ImageSet, arguments: Arguments) -> tuple[DDGANGenerator, DDGANDiscriminator, DDGANTask]:
    """The networks and the task of a denoising diffusion GAN for images of this shape."""
    size, channels = square_size(images), images.shape[0]
    generator = built(DDGANGenerator, sample_size=size, in_channels=channels, **arguments["generator"])
    discriminator = built(DDGANDiscriminator, in_channels=channels, **arguments["discriminator"])
    return generator, discriminator, DDGANTask(DDGANScheduler(**arguments["scheduler"]), generator.config.latent_dim)
