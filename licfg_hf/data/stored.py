"""Images decoded one by one, each time that they are fetched."""

import hashlib
import os
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

import datasets
import numpy as np
import torch
from PIL import Image

from ..command_line import is_main_process
from ..errors import InputError
from ..text import printable
from .columns import labels_of
from .config import DataConfig
from .decoding import UnreadableImage, decode, fit, to_array
from .folders import some

_PROBED_IMAGES = 256
_FIRST_IMAGES = 64  # that decide whether a data set is grey
_NEARLY_BLACK = 16  # of 255

Loaded = TypeVar("Loaded")


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
        """Those of the first images that can be read; damaged ones are counted when all are loaded.

        Raises:
            InputError: none can be read.
        """
        found = False
        try:
            for image, _ in readable(self._decoded, range(min(_FIRST_IMAGES, len(self)))):
                found = True
                yield image
        except UnreadableImage:
            if not found:
                raise

    def probe(self) -> "StoredImages":
        """Loads images spread over the data set, so that an unfit one is found now, and hashes what they became."""
        config, count, brightest = self.config, len(self), 0
        digest = hashlib.sha256(f"{count} {config.image_size} {config.crop} {self.channels}".encode())
        for image in readable(self.load, sorted({*range(0, count, max(1, count // _PROBED_IMAGES)), count - 1})):
            digest.update(image.tobytes())
            brightest = max(brightest, int(image.max()))
        warn_of_black(brightest, config)
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
                raise InputError(f"{where} lies outside the data set: store the images in it")
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
                f"{self.shape[2]}x{self.shape[1]}: pass --image_size to resize all to one size"
            )
        return array

    def fetch(self, indices: torch.Tensor, seed: int) -> torch.Tensor:
        return torch.from_numpy(np.stack([self.load(index, seed) for index in indices.tolist()]))


def readable(load: Callable[[int], Loaded], indices: Collection[int]) -> Iterator[Loaded]:
    """Loads the images one by one; at the end, one error counts and names those that cannot be loaded.

    Raises:
        UnreadableImage: some cannot be decoded.
    """
    damaged = []
    for index in indices:
        try:
            yield load(index)
        except UnreadableImage as error:
            damaged.append(error)
    if damaged:
        others = [error.where for error in damaged[1:]]
        count = f"; {len(damaged)} of {len(indices)} images are like this, also {some(others)}" if others else ""
        raise UnreadableImage(f"{damaged[0]}{count}")


def warn_of_black(brightest: int, config: DataConfig) -> None:
    if brightest < _NEARLY_BLACK:
        note(f"the images of {config.data} are nearly black: no pixel is brighter than {brightest} of 255")


def note(text: str) -> None:
    """Says in one line what a user may not have meant, once per launch."""
    if is_main_process():
        print(f"note: {printable(text)}", file=sys.stderr, flush=True)
