"""Images: pixels and what networks see of them, grids, and picture files."""

import math
from pathlib import Path

import torch
from PIL import Image

from .errors import InputError
from .files import require_writable, writing

MOST_COLUMNS = 20  # of classes in a grid
PICTURE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tiff": "TIFF"}


def from_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels 0 to 255 of any shape and number type as float32 in [-1, 1], on the same device."""
    return pixels.float() / 127.5 - 1


def to_pixels(images: torch.Tensor) -> torch.Tensor:
    """Images of any shape in [-1, 1] as uint8 pixels, on the same device; values outside are clipped."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def images_to_pil(images: torch.Tensor) -> list[Image.Image]:
    """Images (batch, 1 or 3, height, width) in [-1, 1] as 8-bit PIL images; values outside are clipped."""
    return [pixels_to_pil(pixels) for pixels in to_pixels(images.detach().cpu())]


def pixels_to_pil(pixels: torch.Tensor) -> Image.Image:
    """One image of uint8 pixels (1 or 3, height, width), in the computer's own memory, as a PIL image."""
    array = pixels.permute(1, 2, 0).numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


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
    size = (columns * (width + 1) - 1, rows * (height + 1) - 1)
    grid = Image.new(pictures[0].mode, size, "grey")
    for index, picture in enumerate(pictures):
        grid.paste(picture, ((index % columns) * (width + 1), (index // columns) * (height + 1)))
    return grid


def require_picture(path: Path, option: str) -> None:
    """Refuses a file of an option that cannot be written, or whose name ends in none of ``PICTURE_FORMATS``."""
    require_writable(path, option, folder=False)
    if path.suffix.lower() not in PICTURE_FORMATS:
        raise InputError(f"{option} {path} is not the name of a picture: end it in {', '.join(PICTURE_FORMATS)}")


def save_image(image: Image.Image, path: Path) -> None:
    """Writes a picture, whole or not at all; its name ends in one of ``PICTURE_FORMATS``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as file:
        image.save(file, format=PICTURE_FORMATS[path.suffix.lower()])
