"""Passes of images through an extractor: the reference, whose features are kept, and the samples, in shares."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tqdm.auto import tqdm

from ..data import ImageSet
from ..data.image_sets import ImageSubset
from ..data.stored import StoredImages
from ..errors import InputError
from .cache import FEATURES_FILE, reference_statistics
from .extractors import Extractor
from .metrics import Measured, chosen_metrics
from .options import EvaluationConfig
from .samples import SampleSource, through_jpeg
from .statistics import ClassStatistics, FeatureFile, Features, GaussianStatistics

SHOWN = 64  # samples that a report shows


def reference_of(images: ImageSet, name: str, extractor: Extractor, batch_size: int) -> Features:
    """Features of reference images, from the cache or computed now; InputError where they are not finite."""
    count = len(images)
    content = {
        "fingerprint": images.fingerprint,
        "count": count,
        "extractor": extractor.name,
        "digest": extractor.digest,
        "preprocessing": extractor.preprocessing,
        "shape": list(images.shape),
        "choice": "random" if isinstance(images, ImageSubset) else "all",
    }

    whole = images.images if isinstance(images, ImageSubset) else images
    if isinstance(whole, StoredImages):  # whose fingerprint is that of some of them
        content["source"] = whole.source()

    def compute(folder: Path) -> GaussianStatistics:
        store = FeatureFile(folder / FEATURES_FILE, (count, extractor.dim))
        moments = GaussianStatistics.empty(extractor.dim)
        for first in tqdm(range(0, count, batch_size), desc=f"features of {name}", disable=None):
            batch = images.fetch(torch.arange(first, min(first + batch_size, count)), seed=0).cpu()
            vectors, _ = extractor(batch)
            store.write(first, vectors)
            moments.update(vectors)
        store.flush()
        return moments

    try:
        return reference_statistics(content, compute)
    except ValueError as error:
        raise InputError(f"{name} with {extractor.name}: {error}") from error


@contextmanager
def passed(
    source: SampleSource,
    extractor: Extractor,
    config: EvaluationConfig,
    real: Features,
    pool: Callable[[Path], "list[Share]"],
    held_out: ImageSet | None = None,
) -> Iterator[Measured]:
    """What metrics are computed from, once the samples went through the extractor; on the main process.

    Their feature vectors lie in a temporary file until the context ends.

    Args:
        real: features of the reference images.
        pool: the shares of all processes, by that file; see ``take_share``.

    Raises:
        InputError: features are not finite.
    """
    with TemporaryDirectory(prefix="licfg_hf-", ignore_cleanup_errors=True) as folder:
        path, wants_vectors = Path(folder) / "samples.npy", _wants_vectors(config)
        if wants_vectors:
            FeatureFile(path, (source.count, extractor.dim))
        whole = _merged(pool(path), path)
        vectors: Any = FeatureFile(path) if wants_vectors else None
        parts: Any = (torch.cat(whole.pixels) if whole.pixels else None, held_out)
        hits, asked, predicted = whole.counts
        samples = Features(whole.moments, vectors)
        yield Measured(config, real, samples, whole.scores, hits, asked, predicted, *parts)


def _wants_vectors(config: EvaluationConfig) -> bool:
    return config.report or any(metric.vectors for metric in chosen_metrics(config.metrics))


def take_share(
    source: SampleSource,
    extractor: Extractor,
    config: EvaluationConfig,
    path: Path,
    index: int = 0,
    processes: int = 1,
    quiet: bool = False,
) -> "Share":
    """Passes every chunk ``i`` of the samples with ``i % processes == index``; talks to no other process.

    Vectors go into the file, or into the share where the file lies on another machine.
    """
    own = Share(extractor, config)
    store = FeatureFile(path, writable=True) if path.exists() else None
    numbers = range(index, -(-source.count // source.chunk_size), processes)
    for number in tqdm(numbers, desc=f"samples of {source.name}", disable=True if quiet or index else None):
        own.add_chunk(number, source, extractor, config, store)
    if store is not None:
        store.flush()
    return own


class Share:
    """What one process gathered of the samples, as ``Measured`` has it; class numbers are empty without classes."""

    def __init__(self, extractor: Extractor, config: EvaluationConfig):
        metrics, classes = chosen_metrics(config.metrics), extractor.classes or 0
        self.wants_scores = any(metric.probabilities for metric in metrics)
        self.wants_vectors = _wants_vectors(config)
        self.kept = max([SHOWN if config.report else 0, *(metric.pixels for metric in metrics)])  # first samples
        self.moments = GaussianStatistics.empty(extractor.dim)
        self.scores = ClassStatistics.empty(config.is_splits, classes)
        self.counts = torch.zeros(3, classes, dtype=torch.int64)  # hits, asked and predicted by class
        self.pixels: list[torch.Tensor] = []  # by chunk
        self.vectors: list[tuple[int, torch.Tensor]] = []  # with the number of the first one, where there is no file

    def add_chunk(
        self,
        number: int,
        source: SampleSource,
        extractor: Extractor,
        config: EvaluationConfig,
        store: FeatureFile | None,
    ) -> None:
        images, labels = source.chunk(number)
        images = images if config.jpeg is None else through_jpeg(images, config.jpeg)
        begin = number * source.chunk_size
        if begin < self.kept:
            self.pixels.append(images)
        for offset in range(0, len(images), config.batch_size):
            part, first = slice(offset, offset + config.batch_size), begin + offset
            try:
                features, logits = extractor(images[part])
                self.moments.update(features)
                if store is not None:
                    store.write(first, features)
                elif self.wants_vectors:
                    self.vectors.append((first, features.cpu()))
                if logits is not None:
                    self._add_classes(logits, None if labels is None else labels[part], first, source.count)
            except ValueError as error:
                last = first + len(images[part])
                raise InputError(f"samples {first} to {last} of {source.name}: {error}") from error

    def _add_classes(self, logits: torch.Tensor, labels: torch.Tensor | None, first: int, total: int) -> None:
        if self.wants_scores:
            self.scores.update(logits, first, total)
        hits, asked, predicted = self.counts
        chosen = logits.argmax(dim=1)
        predicted += torch.bincount(chosen, minlength=len(predicted))
        if labels is not None and labels.max() < len(asked):  # a model of other classes has no metric that wants this
            asked += torch.bincount(labels, minlength=len(asked))
            hits += torch.bincount(labels[chosen.cpu() == labels], minlength=len(hits))


def _merged(shares: list[Share], path: Path) -> Share:
    """Shares of the processes as one; chunk ``i`` was drawn by process ``i % processes``."""
    whole, *others = shares
    longest = max(len(share.pixels) for share in shares)
    whole.pixels = [share.pixels[i] for i in range(longest) for share in shares if i < len(share.pixels)]
    for other in others:
        whole.moments = whole.moments.merge(other.moments)
        whole.scores = whole.scores.merge(other.scores)
        whole.counts = whole.counts + other.counts
        if other.vectors:
            store = FeatureFile(path, writable=True)
            for first, vectors in other.vectors:
                store.write(first, vectors)
            store.flush()
    return whole
