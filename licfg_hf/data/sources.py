"""Opens an image data set by name: a preset, a Hub id, a local folder of images or parquet files, or the digits."""

import hashlib
import os
import re
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import datasets
import huggingface_hub.errors
import numpy as np
import torch
from tqdm.auto import tqdm

from ..errors import InputError
from .decoding import Crop, decode, fit, to_array
from .presets import PRESETS

EMBEDDED = ("digits",)
_PROBED_IMAGES = 256
_LABEL = "label"  # the column that is taken for labels where no column of classes says so


@dataclass(frozen=True)
class DataConfig:
    """The images to train on.

    Args:
        data: ``digits`` (embedded, nothing is downloaded); ``mnist``, ``cifar10``, ``stl10``, ``celeba``,
            ``celeba-hq``, ``lsun-bedroom``, ``lsun-church`` or ``imagenet``, presets that name a data set on the Hub
            with its split, columns, size and crop, each of which an option overrides; a local folder of images or of
            parquet files; or any data set id on the Hub such as ``uoft-cs/cifar10``.
        split: part of the data set; None takes the preset's, or ``train``.
        image_size: height and width in pixels that images are brought to; None takes the preset's, or keeps the
            images' own, which must be equal.
        crop: how an image that is not square fits: ``center`` or ``random`` square of the shorter side, or ``none``,
            which squeezes it; None takes the preset's, or ``center``.
        image_column: column with the images; None takes the preset's, or the only image column.
        label_column: column with the integer labels; None takes the preset's, or the only class-label column, if
            there is one.
        image_channels: 1 (greyscale) or 3 (RGB); None takes what the first images have.
        in_memory_limit: data sets of at most this many GiB as uint8 are held in memory, on the accelerator where there
            is one; larger ones are decoded by worker processes as they are needed.

    Raises:
        InputError: a value is outside its range.
    """

    data: str = "digits"
    split: str | None = None
    image_size: int | None = None
    crop: Crop | None = None
    image_column: str | None = None
    label_column: str | None = None
    image_channels: int | None = None
    in_memory_limit: float = 4.0

    def __post_init__(self) -> None:
        if not self.data:
            raise InputError("data is empty: name a data set, for example --data digits")
        if self.image_size is not None and self.image_size < 1:
            raise InputError(f"image_size is at least 1 pixel, not {self.image_size}")
        if self.image_channels not in (None, 1, 3):
            raise InputError(f"image_channels is 1 or 3, not {self.image_channels}")
        if self.crop not in (None, "center", "random", "none"):
            raise InputError(f"crop is center, random or none, not {self.crop!r}")

    def resolved(self) -> "DataConfig":
        """The same with a preset's name replaced by what it stands for, and with split and crop decided."""
        preset = PRESETS.get(self.data)
        if preset is None:
            return replace(self, split=self.split or "train", crop=self.crop or "center")
        names = ("split", "image_size", "crop", "image_column", "label_column")
        given = {name: getattr(self, name) for name in names}
        chosen = {name: getattr(preset, name) if value is None else value for name, value in given.items()}
        return replace(self, data=preset.data, **chosen)


class ImageSet(Protocol):
    """Images that can be fetched by index.

    Attributes:
        shape: (channels, height, width) of every image.
        fingerprint: identifies the content and how it was prepared.
        labels: (n,) int64, or None.
        class_names: what each label stands for, in the order of the labels; None where that is unknown.
        in_memory: whether ``fetch`` is a mere indexing.
    """

    shape: tuple[int, int, int]
    fingerprint: str
    labels: torch.Tensor | None
    class_names: tuple[str, ...] | None
    in_memory: bool

    def __len__(self) -> int: ...

    def fetch(self, indices: torch.Tensor, seed: int) -> torch.Tensor:
        """uint8 images (batch, channels, height, width); ``seed`` decides random crops."""
        ...


class TensorImages:
    """Images held as one uint8 tensor (n, channels, height, width), on any device.

    Raises:
        InputError: the tensor is not of that type and shape, or labels do not fit it.
    """

    in_memory = True

    def __init__(
        self,
        images: torch.Tensor,
        labels: torch.Tensor | None = None,
        fingerprint: str | None = None,
        class_names: tuple[str, ...] | None = None,
    ):
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise InputError(
                f"images are a uint8 tensor (n, 1 or 3, height, width), not {images.dtype} {tuple(images.shape)}"
            )
        if labels is not None and labels.shape != (len(images),):
            raise InputError(f"labels are one integer per image, not {tuple(labels.shape)} for {len(images)} images")
        self.images = images.contiguous()
        self.labels, self.class_names = labels, class_names
        self.shape = tuple(images.shape[1:])
        self.fingerprint = fingerprint or hashlib.sha256(self.images.cpu().numpy()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "TensorImages":
        """The same images on another device."""
        labels = self.labels.to(device) if self.labels is not None else None
        return TensorImages(self.images.to(device), labels, self.fingerprint, self.class_names)

    def fetch(self, indices: torch.Tensor, seed: int) -> torch.Tensor:
        return self.images[indices.to(self.images.device)]


class StoredImages:
    """Images decoded one by one from a ``datasets.Dataset`` each time they are fetched."""

    in_memory = False

    def __init__(self, rows: datasets.Dataset, column: str, config: DataConfig, channels: int):
        self.rows, self.column, self.config, self.channels = rows, column, config, channels
        self.labels, self.class_names = _labels(rows, config)
        self.shape = self.load(0, seed=0).shape
        self.fingerprint = self._probe()

    def __len__(self) -> int:
        return len(self.rows)

    def _probe(self) -> str:
        """Loads images spread over the data set, so that an unfit one is found now, and hashes what they became."""
        config, count = self.config, len(self)
        digest = hashlib.sha256(f"{count} {config.image_size} {config.crop} {self.channels}".encode())
        for index in sorted({*range(0, count, max(1, count // _PROBED_IMAGES)), count - 1}):
            digest.update(self.load(index, seed=0).tobytes())
        return digest.hexdigest()[:16]

    def load(self, index: int, seed: int) -> np.ndarray:
        """One image, uint8 (channels, height, width).

        Raises:
            InputError: it cannot be read, or its size is not that of the first image and no size was asked for.
        """
        stored = self.rows[index][self.column]
        where = _where(stored, index, self.config)
        rng = np.random.default_rng((seed, index)) if self.config.crop == "random" else None
        image = fit(decode(stored, where), self.config.image_size, self.config.crop, rng)
        array = to_array(image, self.channels, where)
        if array.shape != getattr(self, "shape", array.shape):
            raise InputError(
                f"{where} has {image.width}x{image.height} pixels, the first one "
                f"{self.shape[2]}x{self.shape[1]}: pass --image_size to bring all to one size"
            )
        return array

    def fetch(self, indices: torch.Tensor, seed: int) -> torch.Tensor:
        return torch.from_numpy(np.stack([self.load(index, seed) for index in indices.tolist()]))


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
    if preset is None:
        return _open(resolved, progress)
    if Path(config.data).is_dir():
        raise InputError(
            f"--data {config.data} is the name of a preset and of a folder here: pass --data ./{config.data} for the "
            f"folder, or --data {preset.data} with --image_size {preset.image_size} for the Hub's"
        )
    try:
        return _open(resolved, progress)
    except InputError as error:
        raise InputError(f"{str(error).rstrip('.')}. {_preset_help(config.data)}") from error


def _preset_help(name: str) -> str:
    """What a preset stands for, and how to take other data instead."""
    return (
        f"--data {name} stands for {PRESETS[name]}; for another copy pass --data ID_OR_FOLDER --split NAME "
        "--image_column NAME --label_column NAME --image_size PIXELS"
    )


def _open(config: DataConfig, progress: bool) -> ImageSet:
    return _prepare(_digits() if config.data in EMBEDDED else _load_rows(config), config, progress)


def _prepare(rows: datasets.Dataset, config: DataConfig, progress: bool) -> ImageSet:
    if len(rows) == 0:
        raise InputError(f"{config.data} has no images in split {config.split!r}")
    column = _image_column(rows, config)
    rows = rows.cast_column(column, datasets.Image(decode=False))
    stored = StoredImages(rows, column, config, config.image_channels or _guess_channels(rows, column, config))
    redrawn = config.crop == "random" and config.image_size is not None
    if redrawn or len(stored) * np.prod(stored.shape) > config.in_memory_limit * 2**30:
        return stored
    hide = True if not progress or len(stored) < 5000 else None  # None: in a log file, not on a terminal
    images = np.stack(
        [stored.load(i, seed=0) for i in tqdm(range(len(stored)), f"decoding {config.data}", disable=hide)]
    )
    return TensorImages(torch.from_numpy(images), stored.labels, class_names=stored.class_names)


def _digits() -> datasets.Dataset:
    """1,797 handwritten digits of 8x8 pixels with 17 grey levels.

    Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository (1998),
    doi:10.24432/C50P49, licensed CC BY 4.0; the copy that scikit-learn ships.
    """
    with np.load(files("licfg_hf.data") / "digits.npz") as stored:
        pixels = np.round(stored["images"] * (255 / 16)).astype(np.uint8)
        labels = stored["labels"].astype(np.int64)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=10)})
    return datasets.Dataset.from_dict({"image": list(pixels), "label": labels}, features=features)


def _load_rows(config: DataConfig) -> datasets.Dataset:
    name = config.data
    path = Path(name).expanduser()
    is_local = path.exists() or name.startswith((".", "/", "~", "\\")) or name.count("/") > 1
    if is_local and not path.is_dir():
        raise InputError(f"no folder {name}; name another, a Hub data set such as uoft-cs/cifar10, or digits")
    try:
        return datasets.load_dataset(str(path) if is_local else name, split=config.split)
    except datasets.exceptions.DatasetNotFoundError as error:
        if "is a gated dataset" in str(error):  # the client's own error is not kept as the cause
            raise InputError(
                f"{name} is gated and this token has no access, or there is none: accept its terms on its page on the "
                "Hub, then log in with `hf auth login` or set HF_TOKEN"
            ) from error
        raise InputError(f"no data set {name} on the Hub, or it is private: {_first_line(error)}") from error
    except (ConnectionError, huggingface_hub.errors.OfflineModeIsEnabled) as error:
        raise InputError(
            f"the Hub cannot be reached for {name}, and it is not in the cache; offline, pass --data digits or a "
            f"local folder of images or parquet files ({_first_line(error)})"
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"no images or parquet files in {name}: {_first_line(error)}") from error
    except (ValueError, OSError, datasets.exceptions.DatasetGenerationError) as error:
        cause = error.__cause__ or error
        raise InputError(f"cannot open {name}, split {config.split!r}: {_first_line(cause)}") from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


def _image_column(rows: datasets.Dataset, config: DataConfig) -> str:
    candidates = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    if config.image_column is not None:
        if config.image_column not in candidates:
            raise InputError(
                f"{config.data} has no image column {config.image_column!r}; its columns are "
                f"{', '.join(rows.features)}, with images in: {', '.join(candidates) or 'none'}"
            )
        return config.image_column
    if len(candidates) != 1:
        raise InputError(
            f"{config.data} has {len(candidates) or 'no'} image columns among {', '.join(rows.features)}"
            + (": choose one with --image_column" if candidates else "")
        )
    return candidates[0]


def _labels(rows: datasets.Dataset, config: DataConfig) -> tuple[torch.Tensor | None, tuple[str, ...] | None]:
    """The labels and what they are called: those of the column that was asked for, or of the one that holds labels.

    Raises:
        InputError: the column that was asked for is not there, or not every row has a label in it.
    """
    column, asked = config.label_column, config.label_column is not None
    if column is None:
        candidates = [name for name, feature in rows.features.items() if isinstance(feature, datasets.ClassLabel)]
        column = candidates[0] if len(candidates) == 1 else _LABEL if _LABEL in rows.features else None
    elif column not in rows.features:
        raise InputError(f"{config.data} has no column {column!r}; its columns are {', '.join(rows.features)}")
    if column is None:
        return None, None
    values, feature = rows[column][:], rows.features[column]
    missing = [row for row, value in enumerate(values) if value is None or value != value]
    if not asked and len(missing) == len(values):
        return None, None
    if missing:
        raise InputError(
            f"{len(missing)} of {len(values)} rows of {config.data} have no label in column {column!r}, the first is "
            f"row {missing[0]}: choose another --label_column or --split"
        )
    kinds = {type(value) for value in values}
    if isinstance(feature, datasets.ClassLabel):
        names = tuple(feature.names)
    elif kinds == {bool}:
        names = ("False", "True")
    elif kinds == {str}:
        names = tuple(sorted(set(values), key=natural_order))
        places = {name: place for place, name in enumerate(names)}
        values = [places[value] for value in values]
    elif kinds == {int}:
        names = None
    elif asked:
        raise InputError(f"column {column!r} of {config.data} holds neither whole numbers, words nor True and False")
    else:
        return None, None
    labels = torch.tensor(values, dtype=torch.int64)
    # By themselves, labels are taken only where they can be ones: -1 is no class.
    return (labels, names) if asked or names or labels.min() >= 0 else (None, None)


def _where(stored: Any, index: int, config: DataConfig) -> str:
    path = stored.get("path") if isinstance(stored, dict) else None
    return f"image {path or index} of {config.data}"


def _guess_channels(rows: datasets.Dataset, column: str, config: DataConfig) -> int:
    """3 unless the first images are all greyscale; a colour image that comes later is an error, never greyed."""
    for index in range(min(64, len(rows))):
        stored = rows[index][column]
        if decode(stored, _where(stored, index, config)).mode != "L":
            return 3
    return 1


def number_of_classes(images: ImageSet) -> int | None:
    """As many as have names, else the largest label plus one; None without labels.

    Raises:
        InputError: a label is negative, which data sets use for unlabelled images.
    """
    if images.labels is None:
        return None
    if images.labels.min() < 0:
        raise InputError("the data has images with a negative label, i.e. without one: choose another --split")
    names = getattr(images, "class_names", None)
    return int(images.labels.max()) + 1 if names is None else len(names)


def natural_order(name: str) -> list[Any]:
    """Sorts as people count: class 2 before class 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)] + [name]


def usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def as_image_set(images: Any) -> ImageSet:
    """What users hand to the trainer as an ``ImageSet``: one already, a uint8 tensor, or a ``datasets.Dataset``.

    Raises:
        InputError: it is none of these.
    """
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
