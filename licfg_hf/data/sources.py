"""Opens an image data set by name: a preset, a Hub id, a local folder of images or parquet files, or the digits."""

import hashlib
import io
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from tqdm.auto import tqdm

from ..errors import InputError
from ..text import printable
from .config import EMBEDDED, PRESETS, DataConfig
from .image_sets import ImageSet, TensorImages
from .kept import find_kept, keep
from .rows import open_rows
from .stored import StoredImages, image_column, warn_of_black

_WORTH_KEEPING = 1.0  # seconds that it took to decode them


def open_images(config: DataConfig, progress: bool = True) -> ImageSet:
    """Opens the data set that ``config`` names.

    Args:
        config: what to open; a preset's name is resolved here.
        progress: show a bar while images are decoded.

    Returns:
        ``TensorImages`` where the images fit into ``in_memory_limit``; ``StoredImages`` otherwise and with random
        crops.

    Raises:
        InputError: no such data set, split or column; the Hub cannot be reached; images that cannot be read or
            that differ in size while no ``image_size`` is given. The message says what to do.
    """
    preset, resolved = PRESETS.get(config.data), config.resolved()
    if preset is not None and Path(config.data).is_dir():
        raise InputError(
            f"--data {config.data} is the name of a preset and of a folder here: pass --data ./{config.data} for the "
            f"folder, or --data {preset.data} with --image_size {preset.image_size} for the Hub's"
        )
    try:
        if resolved.data in EMBEDDED:
            return _prepare(_embedded(resolved), resolved, progress)
        rows, within = open_rows(resolved.data, resolved.data_config, str(resolved.split))
        return _prepare(rows, resolved, progress, within)
    except InputError as error:
        message = printable(str(error))
        if preset is not None:
            message = f"{message.rstrip('.')}. {_preset_help(config.data, preset)}"
        raise InputError(message) from error


def _preset_help(name: str, preset: DataConfig) -> str:
    """What a preset stands for, and how to take other data instead."""
    about = {"split": preset.split, "images in": preset.image_column, "labels in": preset.label_column}
    about |= {"image size": preset.image_size}
    words = "".join(f", {what} {value}" for what, value in about.items() if value is not None)
    return (
        f"--data {name} stands for {preset.data}{words}; for another copy pass --data ID_OR_FOLDER --split NAME "
        "--image_column NAME --label_column NAME --image_size PIXELS"
    )


def _embedded(config: DataConfig) -> datasets.Dataset:
    if config.data_config is not None:
        raise InputError(f"{config.data} has no configurations, which --data_config chooses among")
    if config.split != "train":
        raise InputError(f"{config.data} has only one split, train, and no {config.split!r}")
    return _digits()


def _prepare(rows: datasets.Dataset, config: DataConfig, progress: bool, within: tuple[str, ...] = ()) -> ImageSet:
    if len(rows) == 0:
        raise InputError(f"{config.data} has no images in split {config.split!r}")
    stored = StoredImages(rows, image_column(rows, config), config, within)
    redrawn = config.crop == "random" and config.image_size is not None
    if redrawn or len(stored) * np.prod(stored.shape) > config.in_memory_limit * 2**30:
        return stored.probe()
    images, sha256 = _decoded(stored, config, progress)
    warn_of_black(images.max(), config)
    return TensorImages(torch.from_numpy(images), stored.labels, sha256[:16], stored.class_names)


def _decoded(stored: StoredImages, config: DataConfig, progress: bool) -> tuple[np.ndarray, str]:
    """All images, uint8 (n, channels, height, width), and their SHA-256: kept from an earlier time or decoded now."""
    source, start, shape = stored.source(), time.monotonic(), (len(stored), *stored.shape)
    if source is not None and (found := find_kept(source, shape)) is not None:
        return found
    images = np.empty(shape, dtype=np.uint8)
    hide = True if not progress or len(stored) < 5000 else None  # None: in a log file, not on a terminal
    decoded = tqdm(stored.load(range(len(stored))), f"decoding {config.data}", len(stored), disable=hide)
    for place, image in enumerate(decoded):
        images[place] = image
    sha256 = hashlib.sha256(images.data).hexdigest()
    if source is not None and time.monotonic() - start > _WORTH_KEEPING:
        keep(source, images, sha256)
    return images, sha256


def _digits() -> datasets.Dataset:
    """1,797 handwritten digits of 8x8 pixels with 17 grey levels.

    Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository (1998),
    doi:10.24432/C50P49, licensed CC BY 4.0; the copy that scikit-learn ships.
    """
    with np.load(io.BytesIO(files("licfg_hf.data").joinpath("digits.npz").read_bytes())) as stored:
        pixels = np.round(stored["images"] * (255 / 16)).astype(np.uint8)
        labels = stored["labels"].astype(np.int64)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=10)})
    return datasets.Dataset.from_dict({"image": list(pixels), "label": labels}, features=features)


def as_image_set(images: Any) -> ImageSet:
    """Turns images that a user gives into an ``ImageSet``: such a set, a uint8 tensor, or a ``datasets.Dataset``."""
    if isinstance(images, torch.Tensor):
        return TensorImages(images)
    if isinstance(images, datasets.Dataset):
        return _prepare(images, DataConfig(data="the given data set").resolved(), progress=True)
    if not hasattr(images, "fetch"):
        raise InputError(
            "images are an ImageSet (see open_images), a uint8 tensor or a datasets.Dataset, "
            f"not {type(images).__name__}"
        )
    if not hasattr(images, "class_names"):
        images.class_names = None
    return images
