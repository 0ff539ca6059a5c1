"""Opens an image data set by name: a preset, a Hub id, a local folder of images or parquet files, or the digits."""

import hashlib
import os
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol, TypeVar

import datasets
import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from ..convert.text import printable
from ..errors import InputError
from ..ranges import require_number, require_set, require_whole
from .decoding import Crop, UnreadableImage, decode, fit, to_array
from .folders import LABEL, natural_order, some
from .presets import PRESETS
from .rows import open_rows

EMBEDDED = ("digits",)
LARGEST_IMAGE = 8192  # pixels to a side
_PROBED_IMAGES = 256
_FIRST_IMAGES = 64  # that decide whether a data set is grey
_NEARLY_BLACK = 16  # of 255

Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class DataConfig:
    """The images to train on.

    Args:
        data: ``digits`` (embedded, nothing is downloaded); ``mnist``, ``cifar10``, ``stl10``, ``celeba``,
            ``celeba-hq``, ``lsun-bedroom``, ``lsun-church`` or ``imagenet``, presets that name a data set on the Hub
            with its split, columns, size and crop, each of which an option overrides; a local folder of images or of
            parquet files; or any data set id on the Hub such as ``uoft-cs/cifar10``.
        data_config: configuration (subset) of a data set on the Hub that has several.
        split: part of the data set; None takes the preset's, or ``train``. A folder of images has splits where it
            holds nothing but train/, test/ and the like; otherwise its folders are classes.
        image_size: height and width in pixels that images are brought to; None takes the preset's, or keeps the
            images' own, which must be equal.
        crop: how an image that is not square fits: ``center`` or ``random`` square of the shorter side, or ``none``,
            which squeezes it; None takes the preset's, or ``center``.
        image_column: column with the images; None takes the preset's, or the only image column.
        label_column: column with the labels, which are whole numbers, words, or true and false; None takes the
            preset's, or the only class-label column, or the one called ``label``, if there is one.
        image_channels: 1 (colours become grey) or 3 (RGB); None takes what the first images have.
        in_memory_limit: data sets of at most this many GiB as uint8 are held in memory, on the accelerator where there
            is one; larger ones are decoded by worker processes as they are needed.

    Raises:
        InputError: a value is outside its range.
    """

    data: str = "digits"
    data_config: str | None = None
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
        require_set(self)
        require_whole(1, LARGEST_IMAGE, image_size=self.image_size)
        require_number(0, in_memory_limit=self.in_memory_limit)
        if self.split == "":
            raise InputError("split is empty: name a part of the data set, such as train")
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
    """Images decoded one by one from a ``datasets.Dataset`` each time they are fetched.

    Args:
        rows: the data set.
        column: of the images; no other is decoded.
        config: how they are brought to one size.
        within: folders that a row which is a mere path must not lead out of; () where any may be named.

    Raises:
        InputError: one of the first images cannot be read, or the labels cannot.
    """

    in_memory = False

    def __init__(self, rows: datasets.Dataset, column: str, config: DataConfig, within: tuple[str, ...] = ()):
        self.labels, self.class_names = _labels(rows, config)
        self.rows = rows.select_columns(column).cast_column(column, datasets.Image(decode=False))
        self.column, self.config = column, config
        self.within = tuple(os.path.realpath(folder) for folder in within)
        first = self._first()
        image = next(first)
        grey = image.mode == "L" and (config.image_channels or all(other.mode == "L" for other in first))
        self.channels = config.image_channels or (1 if grey else 3)
        self.shape = to_array(self._fitted(image, 0, 0), self.channels).shape
        self.fingerprint = ""

    def __len__(self) -> int:
        return len(self.rows)

    def _first(self) -> Iterator[Image.Image]:
        """Those of the first images that can be read; damaged ones are counted when all are loaded.

        Raises:
            InputError: none can be read.
        """
        indices, damaged = range(min(_FIRST_IMAGES, len(self))), 0
        for index in indices:
            try:
                yield self._decoded(index)[0]
            except UnreadableImage:
                damaged += 1
        if damaged == len(indices):
            list(readable(self._decoded, indices))

    def probe(self) -> "StoredImages":
        """Loads images spread over the data set, so that an unfit one is found now, and hashes what they became."""
        config, count, brightest = self.config, len(self), 0
        digest = hashlib.sha256(f"{count} {config.image_size} {config.crop} {self.channels}".encode())
        for image in readable(self.load, sorted({*range(0, count, max(1, count // _PROBED_IMAGES)), count - 1})):
            digest.update(image.tobytes())
            brightest = max(brightest, int(image.max()))
        _warn_of_black(brightest, config)
        self.fingerprint = digest.hexdigest()[:16]
        return self

    def _decoded(self, index: int) -> tuple[Image.Image, str]:
        """An image in its own size, and what it is called in messages."""
        stored = self.rows[index][self.column]
        path = stored["path"] if isinstance(stored, dict) else None
        where = printable(f"image {path or index} of {self.config.data}")
        if self.within and stored and stored["path"] and not stored["bytes"]:
            inner, hop, outer = stored["path"].rpartition("::")  # of a file in an archive
            outer = os.path.realpath(os.path.join(self.within[0], outer))
            if not any(Path(outer).is_relative_to(folder) for folder in self.within):
                raise InputError(f"{where} lies outside of the data set: store the images in it")
            stored = {"path": inner + hop + outer}
        return decode(stored, where), where

    def _fitted(self, image: Image.Image, index: int, seed: int) -> Image.Image:
        rng = np.random.default_rng((seed, index)) if self.config.crop == "random" else None
        return fit(image, self.config.image_size, self.config.crop, rng)

    def load(self, index: int, seed: int = 0) -> np.ndarray:
        """One image, uint8 (channels, height, width).

        Raises:
            InputError: it cannot be read; or it has colours where the first ones are grey, or another size than the
                first one, and no option says what to do.
        """
        image, where = self._decoded(index)
        if self.channels == 1 and image.mode != "L" and self.config.image_channels is None:
            raise InputError(
                f"{where} has colours, but the data set began greyscale: pass --image_channels 3, or 1 to make it grey"
            )
        array = to_array(self._fitted(image, index, seed), self.channels)
        if array.shape != self.shape:
            raise InputError(
                f"{where} has {image.width}x{image.height} pixels, the first one "
                f"{self.shape[2]}x{self.shape[1]}: pass --image_size to bring all to one size"
            )
        return array

    def fetch(self, indices: torch.Tensor, seed: int) -> torch.Tensor:
        return torch.from_numpy(np.stack([self.load(index, seed) for index in indices.tolist()]))


def readable(load: Callable[[int], Loaded], indices: Collection[int]) -> Iterator[Loaded]:
    """What can be loaded; at the end, one error counts and names what cannot."""
    damaged = []
    for index in indices:
        try:
            yield load(index)
        except UnreadableImage as error:
            damaged.append(error)
    if damaged:
        others = [error.where for error in damaged[1:]]
        count = f"; {len(damaged)} of {len(indices)} images are like this, also {some(others)}" if others else ""
        raise InputError(f"{damaged[0]}{count}")


def _warn_of_black(brightest: int, config: DataConfig) -> None:
    if brightest < _NEARLY_BLACK:
        _note(f"the images of {config.data} are nearly black: no pixel is brighter than {brightest} of 255")


def _note(text: str) -> None:
    """Says in one line what a user may not have meant, once per launch."""
    if os.environ.get("RANK", "0") == "0":
        print(f"note: {printable(text)}", file=sys.stderr, flush=True)


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
    if config.data in EMBEDDED:
        if config.data_config is not None:
            raise InputError(f"{config.data} has no configurations, which --data_config chooses among")
        if config.split != "train":
            raise InputError(f"{config.data} is all one split, train, and has no {config.split!r}")
        return _prepare(_digits(), config, progress)
    try:
        rows, within = open_rows(config.data, config.data_config, config.split, _note)
        return _prepare(rows, config, progress, within)
    except InputError as error:
        raise InputError(printable(str(error))) from error


def _prepare(rows: datasets.Dataset, config: DataConfig, progress: bool, within: tuple[str, ...] = ()) -> ImageSet:
    if len(rows) == 0:
        raise InputError(f"{config.data} has no images in split {config.split!r}")
    stored = StoredImages(rows, _image_column(rows, config), config, within)
    redrawn = config.crop == "random" and config.image_size is not None
    if redrawn or len(stored) * np.prod(stored.shape) > config.in_memory_limit * 2**30:
        return stored.probe()
    images = np.empty((len(stored), *stored.shape), dtype=np.uint8)
    hide = True if not progress or len(stored) < 5000 else None  # None: in a log file, not on a terminal
    indices = tqdm(range(len(stored)), f"decoding {config.data}", disable=hide)
    for place, image in enumerate(readable(stored.load, indices)):
        images[place] = image
    _warn_of_black(images.max(), config)
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


def _image_column(rows: datasets.Dataset, config: DataConfig) -> str:
    """The column that was asked for, or the only one with images; bytes without more count where nothing else does."""
    features = rows.features
    candidates = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    candidates = candidates or [name for name, feature in features.items() if _holds_files(feature)]
    if config.image_column is not None:
        if config.image_column not in candidates:
            raise InputError(
                f"{config.data} has no image column {config.image_column!r}; its columns are "
                f"{', '.join(features)}, with images in: {', '.join(candidates) or 'none'}"
            )
        return config.image_column
    if len(candidates) != 1:
        raise InputError(
            f"{config.data} has {len(candidates) or 'no'} image columns among {', '.join(features)}"
            + (": choose one with --image_column" if candidates else "")
        )
    return candidates[0]


def _holds_files(feature: Any) -> bool:
    """Whether a column can hold the content of image files, as pandas writes it: {bytes, path}, or bytes alone."""
    if isinstance(feature, dict):
        return set(feature) == {"bytes", "path"}
    return isinstance(feature, datasets.Value) and feature.dtype in ("binary", "large_binary")


def _labels(rows: datasets.Dataset, config: DataConfig) -> tuple[torch.Tensor | None, tuple[str, ...] | None]:
    """The labels and what they are called: those of the column that was asked for, or of the one that holds labels.

    Raises:
        InputError: the column that was asked for is not there, or not every row has a label in it.
    """
    column, asked = config.label_column, config.label_column is not None
    if column is None:
        candidates = [name for name, feature in rows.features.items() if isinstance(feature, datasets.ClassLabel)]
        column = candidates[0] if len(candidates) == 1 else LABEL if LABEL in rows.features else None
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
