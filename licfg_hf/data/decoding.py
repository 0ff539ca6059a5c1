"""One stored image -> one uint8 array of the size that training wants."""

import io
import struct
import zlib
from functools import cache
from typing import Any, Literal

import numpy as np
from datasets.utils.file_utils import xopen
from PIL import Image, UnidentifiedImageError

from ..errors import InputError
from ..text import printable

Crop = Literal["center", "random", "none", "pad"]
ResizeFilter = Literal["lanczos", "bicubic", "bilinear"]
FILTERS: dict[str, Image.Resampling] = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}
VERSION = 1  # raise it where the same file becomes other pixels than before

# Others that Pillow opens are kept out: EPS starts Ghostscript, and the rest are no photographs. TGA, which has no
# signature, comes last.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA")
# What Pillow raises over content that is not what it says.
_DAMAGE = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError, TypeError,
    ValueError, struct.error, zlib.error,
)  # fmt: skip
_EXIF_ORIENTATION = 0x0112
_EXIF = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")  # of what Pillow says about a file
_UPRIGHT: dict[Any, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_SAMPLE_FORMAT = 258, 262, 339


class UnreadableImage(InputError):
    """One image that cannot be decoded; the message names it, and so does ``where``."""

    where = ""


@cache
def formats() -> tuple[str, ...]:
    """The formats of image files that are read, as Pillow calls them."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def decode(stored: Any, where: str) -> Image.Image:
    """A stored image (``{"bytes", "path"}`` as in Hub data sets, PIL image or array) as an upright L or RGB image.

    Transparency is laid on white, EXIF rotation is applied where it can be read, 16-bit greyscale is scaled to 8 bits.
    Of an animation, the first frame is taken. What its numbers mean is not guessed: that, too, is an
    ``UnreadableImage``, which is called ``where``.
    """
    try:
        image = _opened(stored)
        flat, turn = _flat(_eight_bits(image)), _orientation(image)
        return flat if turn is None else flat.transpose(turn)
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        failure = UnreadableImage(f"cannot read {printable(where)}: {_reason(error)}")
        failure.where = printable(where)
        raise failure from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"it is damaged, or in none of the formats {', '.join(formats())}"
    if isinstance(error, Image.DecompressionBombError):
        most = f"{2 * (Image.MAX_IMAGE_PIXELS or 0):,}"
        return f"it has more than {most} pixels; make it smaller first, or raise PIL.Image.MAX_IMAGE_PIXELS in Python"
    return str(error) or type(error).__name__


def _opened(stored: Any) -> Image.Image:
    if isinstance(stored, Image.Image):
        return stored
    if stored is None or (isinstance(stored, dict) and not (stored.get("bytes") or stored.get("path"))):
        raise ValueError("it holds no picture")
    if not isinstance(stored, dict):
        return Image.fromarray(np.asarray(stored))
    source: Any = stored["path"] if not stored.get("bytes") else io.BytesIO(stored["bytes"])
    if isinstance(source, str) and source.startswith("zip://") and "::" in source:  # `datasets` leaves archives packed
        source = xopen(source, "rb")
    image = Image.open(source, formats=formats())
    image.load()
    pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    if pages > 1:
        raise ValueError(f"it holds {pages} pages: save each in its own file")
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """The same with 8 bits per channel; the range of deeper pixels must be known, not guessed."""
    tags = getattr(image, "tag_v2", {})
    # Files of 16 bits that Pillow holds in 32, and 32-bit integers, have one mode.
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if (image.mode in ("I", "F") and not deep) or (tags and 2 in np.ravel(tags.get(_TIFF_SAMPLE_FORMAT, 1))):
        raise ValueError(
            "its pixels are floating, signed or 32-bit numbers, and nothing says which are black and white: save it "
            "with 8 bits"
        )
    if not deep:
        return image
    bits = np.ravel(tags.get(_TIFF_BITS, 16))[0]
    pixels = np.asarray(image).astype(np.uint32)
    if 0 < pixels.max(initial=0) < 2 ** (bits - 4):
        raise ValueError(
            f"its brightest pixel is {pixels.max()} of {2**bits - 1}, so that it would be nearly black: save it with "
            f"8 bits, or with numbers that fill its {bits}"
        )
    if tags.get(_TIFF_PHOTOMETRIC) == 0:  # 0 is white
        pixels = 2**bits - 1 - pixels
    return Image.fromarray((pixels >> (bits - 8)).astype(np.uint8))


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """By which turn it stands upright; None where it does, or where that cannot be read of whole pixels."""
    if not any(kind in image.info for kind in _EXIF) and not hasattr(image, "tag_v2"):
        return None
    try:
        return _UPRIGHT.get(image.getexif().get(_EXIF_ORIENTATION))
    except _DAMAGE:
        return None


def _flat(image: Image.Image) -> Image.Image:
    """The same without transparency, in grey or RGB."""
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        grey = image.mode == "LA"
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        image = image.convert("L") if grey else image
    return _in_mode(image, "L" if image.mode in ("1", "L") else "RGB")


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The same in a mode; no copy where it has it."""
    return image if image.mode == mode else image.convert(mode)


def fit(
    image: Image.Image,
    size: int | None,
    crop: Crop | None = "center",
    resize_filter: ResizeFilter | None = "lanczos",
    rng: np.random.Generator | None = None,
) -> Image.Image:
    """Brings an image to ``size`` x ``size`` pixels with an antialiasing filter; ``None`` leaves it as it is.

    The crop ``none`` squeezes, and ``pad`` fills with black what an image that fits whole leaves free. The others, and
    None, scale the shorter side to ``size`` and cut a square, whose place ``rng`` draws; None cuts it from the centre.
    """
    if size is None or image.size == (size, size):
        return image
    resampling = FILTERS[resize_filter or "lanczos"]
    if crop == "none":
        return image.resize((size, size), resampling)
    if crop == "pad":
        return _padded(image, size, resampling)
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((width, height), resampling)
    spare_x, spare_y = width - size, height - size
    left, top = spare_x // 2, spare_y // 2
    if rng is not None:
        left, top = int(rng.integers(spare_x + 1)), int(rng.integers(spare_y + 1))
    return image.crop((left, top, left + size, top + size))


def _padded(image: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
    """The image in the middle of a black square; it is made smaller where it would not fit, never larger."""
    scale = min(1.0, size / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    square = Image.new(image.mode, (size, size))
    square.paste(image.resize((width, height), resampling), ((size - width) // 2, (size - height) // 2))
    return square


def to_array(image: Image.Image, channels: int) -> np.ndarray:
    """An upright image as uint8 array (channels, height, width); 1 channel is grey, 3 are RGB."""
    pixels = _in_mode(image, "L" if channels == 1 else "RGB").tobytes()
    return np.frombuffer(pixels, np.uint8).reshape(image.height, image.width, channels).transpose(2, 0, 1)
