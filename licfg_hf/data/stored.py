"""Rows of a data set as images and labels; the images are decoded one by one, each time that they are fetched."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import datasets
import numpy as np
import PIL
import torch
from PIL import Image, ImageFile

from ..command_line import note
from ..errors import InputError
from ..text import few, printable
from .config import DataConfig
from .decoding import VERSION, UnreadableImage, decode, fit, to_array
from .folders import LABEL, natural_order
from .image_sets import ClassNames, Labels

_PROBED_IMAGES = 256
_FIRST_IMAGES = 64  # that decide whether a data set is grey
_NEARLY_BLACK = 16  # of 255
_ROWS_AT_ONCE = 32  # one by one, reading rows takes a fifth of the time of decoding small images

Loaded = TypeVar("Loaded")


class StoredImages:
    """Images decoded one by one from the rows of a data set, each time that they are fetched.

    A row that is a mere path must not lead out of the folders ``within``; where there are none, it may name any file.
    """

    in_memory = False

    def __init__(self, rows: datasets.Dataset, column: str, config: DataConfig, within: tuple[str, ...] = ()):
        self.labels, self.class_names = labels_of(rows, config)
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
        """Those of the first images that can be read, at least one; damaged ones are counted when all are loaded."""
        found = False
        try:
            for image, _ in self._readable(self._decoded, range(min(_FIRST_IMAGES, len(self)))):
                found = True
                yield image
        except UnreadableImage:
            if not found:
                raise

    def probe(self) -> "StoredImages":
        """Loads images spread over the data set, so that an unfit one is found now, and hashes what they became."""
        config, count, brightest = self.config, len(self), 0
        digest = hashlib.sha256(f"{count} {config.image_size} {config.crop} {self.channels}".encode())
        for image in self.load(sorted({*range(0, count, max(1, count // _PROBED_IMAGES)), count - 1})):
            digest.update(image.tobytes())
            brightest = max(brightest, int(image.max()))
        warn_of_black(brightest, config)
        self.fingerprint = digest.hexdigest()[:16]
        return self

    def _rows(self, indices: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """The indices with what is stored there."""
        for first in range(0, len(indices), _ROWS_AT_ONCE):
            part = indices[first : first + _ROWS_AT_ONCE]
            yield from zip(part, self.rows[part][self.column], strict=True)

    def _readable(self, load: Callable[[int, Any], Loaded], indices: Sequence[int]) -> Iterator[Loaded]:
        """Loads stored images one by one; at the end, one error counts and names those that cannot be decoded."""
        damaged = []
        for index, stored in self._rows(indices):
            try:
                yield load(index, stored)
            except UnreadableImage as error:
                damaged.append(error)
        if damaged:
            others = [error.where for error in damaged[1:]]
            count = f"; {len(damaged)} of {len(indices)} images are like this, also {few(others)}" if others else ""
            raise UnreadableImage(f"{damaged[0]}{count}")

    def _file(self, path: str, where: str) -> str:
        """The file that a row names in place of an image; it lies in the data set."""
        if not self.within:
            return path
        inner, hop, outer = path.rpartition("::")  # of a file in an archive
        outer = os.path.realpath(os.path.join(self.within[0], outer))
        if not any(Path(outer).is_relative_to(folder) for folder in self.within):
            raise InputError(f"{printable(where)} lies outside the data set: store the images in it")
        return inner + hop + outer

    def _decoded(self, index: int, stored: Any) -> tuple[Image.Image, str]:
        """An image in its own size, and what it is called in messages."""
        path = stored["path"] if isinstance(stored, dict) else None
        where = f"image {path or index} of {self.config.data}"
        if path and not stored["bytes"]:
            stored = {"path": self._file(path, where)}
        return decode(stored, where), where

    def _fitted(self, image: Image.Image, index: int, seed: int) -> Image.Image:
        rng = np.random.default_rng((seed, index)) if self.config.crop == "random" else None
        return fit(image, self.config.image_size, self.config.crop, self.config.resize_filter, rng)

    def _load(self, index: int, stored: Any, seed: int = 0) -> np.ndarray:
        """One image, uint8 (channels, height, width), which has the colours and the size of the first ones."""
        image, where = self._decoded(index, stored)
        if self.channels == 1 and image.mode != "L" and self.config.image_channels is None:
            raise InputError(
                f"{printable(where)} has colours, but the data set began greyscale: pass --image_channels 3, or 1 to "
                "make it grey"
            )
        array = to_array(self._fitted(image, index, seed), self.channels)
        if array.shape != self.shape:
            raise InputError(
                f"{printable(where)} has {image.width}x{image.height} pixels, the first one "
                f"{self.shape[2]}x{self.shape[1]}: pass --image_size to resize all to one size"
            )
        return array

    def load(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Images one by one, uint8 (channels, height, width); an error at the end names all that are damaged."""
        return self._readable(self._load, indices)

    def fetch(self, indices: torch.Tensor, seed: int) -> torch.Tensor:
        images = [self._load(index, stored, seed) for index, stored in self._rows(indices.tolist())]
        return torch.from_numpy(np.stack(images))

    def source(self) -> str | None:
        """A hash of all that decides the images' pixels; None where that cannot be known.

        It covers the options, the software and every stored byte; of files their path, inode, size and times.
        """
        config, software = self.config, (VERSION, PIL.__version__)
        leniency = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
        ways = (config.image_size, config.crop, config.resize_filter, config.image_channels)
        options = (len(self), self.shape, *ways)
        digest = hashlib.sha256(repr((software, leniency, options)).encode())
        for _, stored in self._rows(range(len(self))):
            if not isinstance(stored, dict):  # what a transform of the user's makes of it, perhaps by chance
                return None
            content = stored["bytes"] or b""
            if not content and stored["path"]:
                file = self._file(stored["path"], f"image {stored['path']} of {config.data}")
                try:
                    found = os.stat(file.rpartition("::")[2])
                except OSError:
                    return None
                content = repr((file, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)).encode()
                digest.update(b"file")
            digest.update(b"%d " % len(content))
            digest.update(content)
        return digest.hexdigest()[:32]


def warn_of_black(brightest: int, config: DataConfig) -> None:
    if brightest < _NEARLY_BLACK:
        note(f"the images of {config.data} are nearly black: no pixel is brighter than {brightest} of 255")


def image_column(rows: datasets.Dataset, config: DataConfig) -> str:
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
    """True if a column can hold the content of image files, as pandas writes it: {bytes, path}, or bytes alone."""
    if isinstance(feature, dict):
        return set(feature) == {"bytes", "path"}
    return isinstance(feature, datasets.Value) and feature.dtype in ("binary", "large_binary")


def labels_of(rows: datasets.Dataset, config: DataConfig) -> tuple[Labels, ClassNames]:
    """The labels and what they are called: those of the column that was asked for, or of the one that holds labels."""
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
