"""The settings of a data set: which images, and their size; and presets, short names of data sets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError
from ..ranges import require_number, require_set, require_whole
from .decoding import FILTERS, Crop, ResizeFilter

EMBEDDED = ("digits",)  # in this package: nothing is downloaded
LARGEST_IMAGE = 8192  # pixels to a side
_DEFAULTS: dict[str, Any] = {"split": "train", "crop": "center", "resize_filter": "lanczos"}


@dataclass(frozen=True)
class DataConfig:
    """The images to train on.

    Args:
        data: ``digits`` (embedded, nothing is downloaded); ``mnist``, ``cifar10``, ``stl10``, ``celeba``,
            ``celeba-hq``, ``lsun-bedroom``, ``lsun-church`` or ``imagenet``, presets that name a data set on the Hub
            with its split, columns, size and crop, each of which an option overrides; a local folder of images or of
            parquet files; or any data set id on the Hub such as ``uoft-cs/cifar10``.
        data_config: configuration (subset) of a data set on the Hub that has several.
        split: part of the data set; None takes the preset's, or ``train``. A folder of images has splits if it
            holds only train/, test/ and the like; otherwise its folders are classes.
        image_size: height and width in pixels to which images are resized; None takes the preset's, or keeps the
            images' own, which must be equal.
        crop: how an image fits into that square: ``center`` or ``random`` cuts a square of its shorter side, ``none``
            squeezes it, and ``pad`` makes a larger one fit whole and fills the rest with black, so that a smaller one
            keeps its size; None takes the preset's, or ``center``.
        resize_filter: ``lanczos``, ``bicubic`` or ``bilinear``, each antialiased as in Pillow; None takes the
            preset's, or ``lanczos``. Torchvision's default, which most published code has, is ``bilinear``.
        image_column: column with the images; None takes the preset's, or the only image column.
        label_column: column with the labels, which are whole numbers, words, or true and false; None takes the
            preset's, or the only class-label column, or the one called ``label``, if there is one.
        image_channels: 1 (colours become grey) or 3 (RGB); None takes what the first images have.
        in_memory_limit: data sets of at most this many GiB as uint8 are held in memory, on the accelerator if there is
            one; larger ones are decoded by worker processes as they are needed.

    Raises:
        InputError: a value is outside its range.
    """

    data: str = "digits"
    data_config: str | None = None
    split: str | None = None
    image_size: int | None = None
    crop: Crop | None = None
    resize_filter: ResizeFilter | None = None
    image_column: str | None = None
    label_column: str | None = None
    image_channels: int | None = None
    in_memory_limit: float = 4.0

    def __post_init__(self) -> None:
        if not self.data:
            raise InputError("data is empty: name a data set, for example --data digits")
        require_set(self)
        require_whole(1, LARGEST_IMAGE, image_size=self.image_size)
        require_number(0, in_memory_limit=self.in_memory_limit)
        if self.split == "":
            raise InputError("split is empty: name a part of the data set, such as train")
        if self.image_channels not in (None, 1, 3):
            raise InputError(f"image_channels is 1 or 3, not {self.image_channels}")
        if self.crop not in (None, "center", "random", "none", "pad"):
            raise InputError(f"crop is center, random, none or pad, not {self.crop!r}")
        if self.resize_filter not in (None, *FILTERS):
            raise InputError(f"resize_filter is one of {', '.join(FILTERS)}, not {self.resize_filter!r}")

    def resolved(self) -> "DataConfig":
        """The same with a preset's name replaced by what it stands for; split, crop and filter are decided."""
        preset = PRESETS.get(self.data, self)
        chosen = _DEFAULTS | _given(preset) | _given(self)
        chosen["data"] = preset.data
        return DataConfig(**chosen)


def _given(config: DataConfig) -> dict[str, Any]:
    return {name: value for name, value in vars(config).items() if value is not None}


# A name may be added.
PRESETS = {
    name: DataConfig(**{**_DEFAULTS, "image_column": "image", **preset})
    for name, preset in yaml.safe_load(Path(__file__).with_name("presets.yaml").read_text(encoding="utf-8")).items()
}


def names_of(data: str) -> tuple[str, ...]:
    """All names of a data set: that of its preset and the id that it stands for, or its only one."""
    return next(((name, preset.data) for name, preset in PRESETS.items() if data in (name, preset.data)), (data,))
