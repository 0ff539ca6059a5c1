"""What the library's pipelines share."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from PIL import Image
from torch import nn

from ..files import writing
from ..staging import finish_update
from .locate import fetch
from .model_index import plain

MOST_COLUMNS = 20  # of classes in a grid
PICTURE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tiff": "TIFF"}
RandomGenerators = torch.Generator | list[torch.Generator] | None

OF_THE_DOWNLOAD = (
    "variant",
    "cache_dir",
    "local_files_only",
    "force_download",
)  # among the options of from_pretrained
# What goes wrong where files are not those of a pipeline or a network.
LOAD_FAILURES = (OSError, ValueError, TypeError, LookupError, RuntimeError, AttributeError)


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class HubPipeline(DiffusionPipeline):
    """A pipeline whose networks are classes of this package, loadable from a folder and from a Hub repository."""

    @classmethod
    def download(cls, pretrained_model_name: str, **kwargs) -> str:
        """Fetches a repository into the cache and returns its folder.

        diffusers' own ``download`` refuses repositories whose components are not diffusers or transformers classes.
        """
        wanted = ("revision", "token", *OF_THE_DOWNLOAD)
        return fetch(pretrained_model_name, **{name: kwargs[name] for name in wanted if kwargs.get(name) is not None})

    @classmethod
    @wraps(DiffusionPipeline.load_config.__func__)
    def load_config(cls, pretrained_model_name_or_path: str | Path, *args: Any, **kwargs: Any) -> Any:
        """As in diffusers, but where a repository names code for this library's classes, these are taken themselves.

        So what ``licfg-hf push --remote_code`` published loads here without trust, and nothing of it is executed.

        Raises:
            ValueError: it names a class that this library does not export.
        """
        finish_update(Path(pretrained_model_name_or_path))
        loaded = super().load_config(pretrained_model_name_or_path, *args, **kwargs)
        return (plain(loaded[0]), *loaded[1:]) if isinstance(loaded, tuple) else plain(loaded)

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> "HubPipeline":
        """As in diffusers, but with networks of any class, where diffusers wants the very class of the annotation."""
        wanted = signature(cls.__init__).parameters
        parts = {name: part for name, part in pipeline.components.items() if name in wanted}
        return super().from_pipe(pipeline, **(parts | kwargs))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in eval mode for a while; afterwards each of its layers is in the mode that it was in."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def require_request(batch_size: int, chunk_size: int, output_type: str, generator: RandomGenerators) -> None:
    """Checks what every pipeline is asked for.

    Raises:
        ValueError: ``batch_size`` or ``chunk_size`` is below 1, ``output_type`` is unknown, the number of generators
            is not ``batch_size``, or they are no generators.
    """
    if batch_size < 1 or chunk_size < 1:
        raise ValueError(f"batch_size and chunk_size are at least 1, not {batch_size} and {chunk_size}")
    if output_type not in ("pil", "np", "pt"):
        raise ValueError(f"output_type is pil, np or pt, not {output_type!r}")
    generators = generator if isinstance(generator, list) else [] if generator is None else [generator]
    if not all(isinstance(one, torch.Generator) for one in generators):
        raise ValueError(f"generator is a torch.Generator or a list of them, one per image, not {generator!r}")
    if isinstance(generator, list) and len(generator) != batch_size:
        raise ValueError(f"{len(generator)} generators do not fit a batch of {batch_size}")


def finish(images: torch.Tensor, output_type: str, return_dict: bool) -> ImagePipelineOutput | tuple:
    """Images (batch, channels, height, width) in [-1, 1] in the form that the caller wants, as in diffusers."""
    if output_type == "pil":
        images = images_to_pil(images)
    else:
        images = ((images + 1) / 2).clamp(0, 1)
        images = images if output_type == "pt" else images.permute(0, 2, 3, 1).float().cpu().numpy()
    return ImagePipelineOutput(images=images) if return_dict else (images,)


def images_to_pil(images: torch.Tensor) -> list[Image.Image]:
    """Images (batch, 1 or 3, height, width) in [-1, 1] as 8-bit PIL images; values outside are clipped."""
    pixels = ((images.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    arrays = pixels.permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array) for array in arrays]


def grid_columns(count: int, classes: int | None) -> int:
    """Columns of a grid of ``count`` samples whose classes come in turn: one for each class, where they are few."""
    return classes if classes is not None and 1 < classes <= min(count, MOST_COLUMNS) else math.ceil(math.sqrt(count))


def image_grid(images: torch.Tensor, columns: int, smallest: int = 32) -> Image.Image:
    """A grid, row by row, of images (batch, 1 or 3, height, width) in [-1, 1], one pixel apart.

    Images of fewer than ``smallest`` pixels are enlarged by a whole factor, without smoothing.
    """
    factor = max(1, -(-smallest // images.shape[-1]))
    pictures = images_to_pil(images.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3))
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    grid = Image.new(
        pictures[0].mode,
        (columns * (width + 1) - 1, rows * (height + 1) - 1),
        color=128 if pictures[0].mode == "L" else (128, 128, 128),
    )
    for index, picture in enumerate(pictures):
        grid.paste(picture, ((index % columns) * (width + 1), (index // columns) * (height + 1)))
    return grid


def save_image(image: Image.Image, path: Path) -> None:
    """Writes a picture, in the format that its name ends in, beside its final name and renames it: never half of one.

    Raises:
        KeyError: the name does not end as one of ``PICTURE_FORMATS``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as file:
        image.save(file, format=PICTURE_FORMATS[path.suffix.lower()])
