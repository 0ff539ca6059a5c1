"""Statistics of a set of images, gathered batch by batch: moments, class probabilities, feature vectors.

Sums are in float64 and merge, so one process or seven give the same numbers; memory does not grow with the number of
images but for feature vectors, which lie in a memory-mapped file.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch


def _on_the_host(values: torch.Tensor, what: str) -> torch.Tensor:
    """Values in float64, which not every device has; ValueError where one is not finite."""
    values = values.detach().cpu()
    if not torch.isfinite(values).all():
        raise ValueError(f"{what} hold NaN or infinity")
    return values.double()


@dataclass
class GaussianStatistics:
    """Mean and covariance of feature vectors (Chan, Golub, LeVeque, 1979: batches merge without cancellation)."""

    count: int  # vectors so far
    mean: torch.Tensor  # (d,), float64
    scatter: torch.Tensor  # sum of outer products of the deviations from the mean, (d, d), float64

    @classmethod
    def empty(cls, dim: int) -> "GaussianStatistics":
        """The moments of no vectors, which have length ``dim``."""
        return cls(0, torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dim, dtype=torch.float64))

    @classmethod
    def of(cls, features: torch.Tensor) -> "GaussianStatistics":
        """The moments of vectors (n, d); ValueError where one is not finite."""
        moments = cls.empty(features.shape[1])
        moments.update(features)
        return moments

    def update(self, features: torch.Tensor) -> None:
        """Adds vectors (n, d) in place; ValueError, with nothing changed, where one is not finite."""
        values = _on_the_host(features, "features")
        if not len(values):
            return
        before = self.mean if self.count else values.mean(dim=0)
        deviations = values - before
        self.count += len(values)
        self.mean = before + deviations.sum(dim=0) / self.count
        # Welford's update for many vectors at once, a single product: the sum of (x - mean before) (x - mean after)^T.
        self.scatter.addmm_(deviations.T, values - self.mean)

    def merge(self, other: "GaussianStatistics") -> "GaussianStatistics":
        """The statistics of both sets together."""
        count = self.count + other.count
        share = other.count / max(count, 1)
        gap = other.mean - self.mean
        scatter = self.scatter + other.scatter + torch.outer(gap, gap) * (self.count * share)
        return GaussianStatistics(count, self.mean + gap * share, scatter)

    @property
    def covariance(self) -> torch.Tensor:
        """(d, d), unbiased; ValueError where there are fewer than two vectors."""
        if self.count < 2:
            raise ValueError("a covariance needs at least two feature vectors")
        return self.scatter / (self.count - 1)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors to write into a file."""
        return {"count": torch.tensor(self.count), "mean": self.mean, "scatter": self.scatter}

    @classmethod
    def from_tensors(cls, tensors: dict[str, torch.Tensor]) -> "GaussianStatistics":
        """From ``tensors``."""
        return cls(int(tensors["count"]), tensors["mean"], tensors["scatter"])


@dataclass
class ClassStatistics:
    """Sums over class probabilities p(y|x) for the Inception Score, for each of ``splits`` runs of the index order.

    The order must therefore not be by class.
    """

    counts: torch.Tensor  # images of each split, (splits,), float64
    probabilities: torch.Tensor  # sum of p, (splits, classes), float64
    negentropies: torch.Tensor  # sum of sum_y p log p, (splits,), float64

    @classmethod
    def empty(cls, splits: int, classes: int) -> "ClassStatistics":
        """The statistics of no images."""
        counts, negentropies = torch.zeros(2, splits, dtype=torch.float64)
        return cls(counts, torch.zeros(splits, classes, dtype=torch.float64), negentropies)

    def update(self, logits: torch.Tensor, first: int, total: int) -> None:
        """Adds images ``first`` .. of ``total`` by their logits (n, classes); ValueError where one is not finite."""
        logs = _on_the_host(logits, "class logits").log_softmax(dim=1)
        probabilities = logs.exp()
        bounds = torch.arange(1, len(self.counts)) * total // len(self.counts)  # of the splits, rounded down
        splits = torch.bucketize(torch.arange(first, first + len(logits)), bounds, right=True)
        self.counts.index_add_(0, splits, torch.ones(len(logits), dtype=torch.float64))
        self.probabilities.index_add_(0, splits, probabilities)
        self.negentropies.index_add_(0, splits, (probabilities * logs).sum(dim=1))

    def merge(self, other: "ClassStatistics") -> "ClassStatistics":
        """The statistics of both sets together."""
        names = [item.name for item in fields(self)]
        return ClassStatistics(*(getattr(self, name) + getattr(other, name) for name in names))

    def scores(self) -> torch.Tensor:
        """exp(E KL(p(y|x) || p(y))) of each split, (splits,); ValueError where one has no image."""
        if (self.counts == 0).any():
            raise ValueError(f"there are fewer images than the {len(self.counts)} splits")
        marginal = self.probabilities / self.counts[:, None]
        entropy = torch.xlogy(marginal, marginal).sum(dim=1)
        return (self.negentropies / self.counts - entropy).clamp(min=0).exp()  # below 0 by rounding only


def inception_score(statistics: ClassStatistics) -> tuple[float, float]:
    """Mean and standard deviation over the splits (Salimans et al., 2016); the deviation of one split is 0."""
    scores = statistics.scores()
    return scores.mean().item(), scores.std(correction=0).item()


class FeatureSet:
    """Feature vectors in an array (n, d), handed out in float64."""

    _array: np.ndarray

    def __len__(self) -> int:
        return len(self._array)

    def rows(self, indices: torch.Tensor) -> torch.Tensor:
        """Vectors at indices, (len, d), float64."""
        return torch.from_numpy(self._array[indices.numpy()].astype(np.float64, copy=False))

    def blocks(self, size: int) -> Iterator[torch.Tensor]:
        """All vectors in order, float64, ``size`` at a time; not to be changed."""
        for first in range(0, len(self), size):
            yield torch.from_numpy(self._array[first : first + size].astype(np.float64, copy=False))


class TensorFeatures(FeatureSet):
    """Feature vectors (n, d) that are held in memory; ValueError where one is not finite."""

    def __init__(self, features: torch.Tensor):
        self._array = _on_the_host(features, "features").numpy()


class FeatureFile(FeatureSet):
    """Feature vectors, float32, in a ``.npy`` file that is mapped into memory; a shape (n, d) makes a new one."""

    def __init__(self, path: Path, shape: tuple[int, int] | None = None, writable: bool = False):
        if shape is not None:
            np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape).flush()
            with open(path, "r+b") as file:  # a full disk raises here, and not as a bus error while writing
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        self._array: np.memmap = np.lib.format.open_memmap(path, mode="r+" if shape is not None or writable else "r")

    def write(self, first: int, features: torch.Tensor) -> None:
        """Puts vectors at rows ``first`` ..; ValueError where one is not finite."""
        self._array[first : first + len(features)] = _on_the_host(features, "features").numpy()

    def flush(self) -> None:
        """Brings what was written to the file."""
        self._array.flush()


class Features(NamedTuple):
    """Features of a set of images."""

    moments: GaussianStatistics
    vectors: FeatureSet  # each, in order; absent (None) where nobody asked for more than the moments
