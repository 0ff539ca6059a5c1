"""Images that can be fetched by index: the protocol, those held in memory, and a part of others."""

import hashlib
from typing import Protocol

import numpy as np
import torch

from ..errors import InputError

Labels = torch.Tensor | None
ClassNames = tuple[str, ...] | None


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
    labels: Labels
    class_names: ClassNames
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
        self, images: torch.Tensor, labels: Labels = None, fingerprint: str = "", class_names: ClassNames = None
    ):
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise InputError(
                f"images are a uint8 tensor (n, 1 or 3, height, width), not {images.dtype} {tuple(images.shape)}"
            )
        if labels is not None and labels.shape != (len(images),):
            raise InputError(f"labels are one integer per image, not {tuple(labels.shape)} for {len(images)} images")
        self.images = images.contiguous()
        self.labels, self.class_names = labels, class_names
        self.shape = (images.shape[1], images.shape[2], images.shape[3])
        self.fingerprint = fingerprint or hashlib.sha256(self.images.cpu().numpy().data).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "TensorImages":
        """The same images on another device."""
        labels = self.labels.to(device) if self.labels is not None else None
        return TensorImages(self.images.to(device), labels, self.fingerprint, self.class_names)

    def fetch(self, indices: torch.Tensor, seed: int) -> torch.Tensor:
        return self.images[indices.to(self.images.device)]


class ImageSubset:
    """``count`` images of a data set, in the order of a permutation that depends on the size of the set alone."""

    in_memory = False

    def __init__(self, images: ImageSet, count: int):
        self.images, self.shape = images, images.shape
        self.indices = torch.from_numpy(np.random.default_rng(0).permutation(len(images))[:count].copy())
        self.labels = None if images.labels is None else images.labels[self.indices.to(images.labels.device)]
        self.fingerprint, self.class_names = images.fingerprint, getattr(images, "class_names", None)

    def __len__(self) -> int:
        return len(self.indices)

    def fetch(self, indices: torch.Tensor, seed: int) -> torch.Tensor:
        """uint8 images (batch, channels, height, width)."""
        return self.images.fetch(self.indices[indices], seed)


def subset(images: ImageSet, count: int | None) -> ImageSet:
    """The images themselves where all of them, or no number, are wanted."""
    return images if count is None or count >= len(images) else ImageSubset(images, count)


def number_of_classes(images: ImageSet) -> int | None:
    """The number of class names, else the largest label plus one; None without labels.

    Raises:
        InputError: a label is negative, which data sets use for unlabelled images.
    """
    if images.labels is None:
        return None
    if images.labels.min() < 0:
        raise InputError("the data has images with a negative label, i.e. without one: choose another --split")
    names = getattr(images, "class_names", None)
    return int(images.labels.max()) + 1 if names is None else len(names)
