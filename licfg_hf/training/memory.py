"""Sizes that no machine could hold are refused before anything is allocated, and a lack of memory is recognized."""

import math

import psutil
import torch
from PIL import Image

from ..errors import InputError
from .config import TrainingConfig

_LARGEST_PICTURE = 2 * (Image.MAX_IMAGE_PIXELS or 2**26)  # of more pixels, Pillow opens none
_SMALLEST_IMAGE = 32  # in a grid, smaller ones are enlarged


def require_sizes(config: TrainingConfig, shape: tuple[int, int, int]) -> None:
    """Checks what a step loads and what a picture holds.

    Args:
        shape: (channels, height, width) of an image.

    Raises:
        InputError: a picture could not be opened, or the images of a step do not fit this machine's memory.
    """
    pixels = math.prod(max(side, _SMALLEST_IMAGE) for side in shape[1:])
    if config.sample_count * pixels > _LARGEST_PICTURE:
        raise InputError(
            f"a picture of sample_count {config.sample_count:,} images of {shape[2]}x{shape[1]} is too large to be "
            f"opened: {max(1, _LARGEST_PICTURE // pixels):,} are possible"
        )
    loaded = config.batch_size * config.discriminator_steps * math.prod(shape)
    memory = psutil.virtual_memory().total
    if loaded > memory:
        raise InputError(
            f"the {config.discriminator_steps:,} discriminator_steps of batch_size {config.batch_size:,} load "
            f"{loaded / 2**30:,.0f} GiB of images for one step, and this machine has {memory / 2**30:,.0f} GiB"
        )


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a device or not; errors of a device are something else."""
    words = ("can't allocate memory", "not enough memory")  # torch's on the CPU, where it has no class of its own
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error) for word in words)
