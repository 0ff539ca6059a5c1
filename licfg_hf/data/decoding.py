"""One stored image -> one uint8 array of the size that training wants."""

import io
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps

from ..errors import InputError

Crop = Literal["center", "random", "none"]


def decode(stored: Any, where: str) -> Image.Image:
    """A stored image (``{"bytes", "path"}`` as in Hub data sets, PIL image or array) as an upright L or RGB image.

    Transparency is laid on white, EXIF rotation is applied, 16-bit greyscale is scaled to 8 bits.

    Args:
        where: names the image in the error message.

    Raises:
        InputError: it cannot be decoded.
    """
    try:
        if isinstance(stored, dict):
            content = io.BytesIO(stored["bytes"]) if stored.get("bytes") else stored["path"]
            image = Image.open(content)
            image.load()
        else:
            image = stored if isinstance(stored, Image.Image) else Image.fromarray(np.asarray(stored))
    except (OSError, ValueError, TypeError, KeyError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read {where}: {error}") from error
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        grey = image.mode == "LA"
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        image = image.convert("L") if grey else image
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def fit(image: Image.Image, size: int | None, crop: Crop, rng: np.random.Generator | None) -> Image.Image:
    """Brings an image to ``size`` x ``size`` pixels with an antialiasing filter; ``None`` leaves it as it is.

    Args:
        size: height and width in pixels.
        crop: ``center`` and ``random`` scale the shorter side to ``size`` and cut a square; ``none`` squeezes.
        rng: draws the place of a random crop.
    """
    if size is None or image.size == (size, size):
        return image
    if crop == "none":
        return image.resize((size, size), Image.Resampling.LANCZOS)
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    spare_x, spare_y = width - size, height - size
    left, top = spare_x // 2, spare_y // 2
    if crop == "random":
        left, top = int(rng.integers(spare_x + 1)), int(rng.integers(spare_y + 1))
    return image.crop((left, top, left + size, top + size))


def to_array(image: Image.Image, channels: int, where: str) -> np.ndarray:
    """An upright image as uint8 array (channels, height, width).

    Raises:
        InputError: a colour image where one channel is wanted (its colours would be lost silently).
    """
    if channels == 1 and image.mode != "L":
        raise InputError(f"{where} has colours, but the data set began greyscale: pass --image_channels 3")
    array = np.asarray(image.convert("RGB") if channels == 3 else image)
    return array[None] if channels == 1 else array.transpose(2, 0, 1)
