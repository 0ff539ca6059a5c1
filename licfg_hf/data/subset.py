"""Images of a data set in an order that is random but always the same: stored sets are often sorted by class."""

import numpy as np
import torch

from .sources import ImageSet


class ImageSubset:
    """``count`` images of a data set, in the order of a permutation that depends on the size of the set alone.

    Args:
        images: the data set.
        count: how many; at most its size.
    """

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
