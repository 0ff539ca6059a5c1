"""Passes of images through an extractor: the reference, whose features are kept, and the samples, by all processes."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from tqdm.auto import tqdm

from ..data import ImageSet
from ..data.image_sets import ImageSubset
from ..errors import InputError
from .cache import FEATURES_FILE, reference_statistics
from .extractors import Extractor
from .metrics import Measured, chosen_metrics
from .options import EvaluationConfig
from .samples import CHUNK, SampleSource, through_jpeg
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
    held_out: ImageSet | None = None,
    state: PartialState | None = None,
    quiet: bool = False,
) -> Iterator[Measured | None]:
    """What metrics are computed from, once the samples went through the extractor; None but on the main process.

    Samples are gathered as far as the metrics that are asked for and the report need it. Their feature vectors lie in
    a temporary file until the context ends.

    Args:
        real: features of the reference images.
        state: the processes, each of which takes its share of the chunks; None for this process alone.

    Raises:
        InputError: features are not finite.
    """
    index, processes = (state.process_index, state.num_processes) if state is not None else (0, 1)
    wants_vectors = config.report or any(metric.vectors for metric in chosen_metrics(config.metrics))
    with _shared_folder(state) as folder:
        path = folder / "samples.npy"
        if wants_vectors and index == 0:
            FeatureFile(path, (source.count, extractor.dim))
        if state is not None:
            state.wait_for_everyone()
        store = FeatureFile(path, writable=True) if wants_vectors else None
        own = _Share(extractor, config)
        numbers = range(index, -(-source.count // CHUNK), processes)
        for number in tqdm(numbers, desc=f"samples of {source.name}", disable=True if quiet or index else None):
            own.add_chunk(number, source, extractor, config, store)
        if store is not None:
            store.flush()
        shares = [own] if state is None else gather_object([own])
        if state is not None:
            state.wait_for_everyone()
        if index:
            yield None
            return
        whole = _merged(shares)
        vectors: Any = FeatureFile(path) if wants_vectors else None
        parts: Any = (torch.cat(whole.pixels) if whole.pixels else None, held_out)
        hits, asked, predicted = whole.counts
        samples = Features(whole.moments, vectors)
        yield Measured(config, real, samples, whole.scores, hits, asked, predicted, *parts)


@contextmanager
def _shared_folder(state: PartialState | None) -> Iterator[Path]:
    """A temporary folder of the main process that all processes know."""
    is_main = state is None or state.is_main_process
    path = [tempfile.mkdtemp(prefix="licfg_hf-") if is_main else ""]
    if state is not None:
        broadcast_object_list(path)
    try:
        yield Path(path[0])
    finally:
        if is_main:
            shutil.rmtree(path[0], ignore_errors=True)


class _Share:
    """What one process gathered of the samples, as ``Measured`` has it; class numbers are empty without classes."""

    def __init__(self, extractor: Extractor, config: EvaluationConfig):
        metrics, classes = chosen_metrics(config.metrics), extractor.classes or 0
        self.wants_scores = any(metric.probabilities for metric in metrics)
        self.kept = max([SHOWN if config.report else 0, *(metric.pixels for metric in metrics)])  # first samples
        self.moments = GaussianStatistics.empty(extractor.dim)
        self.scores = ClassStatistics.empty(config.is_splits, classes)
        self.counts = torch.zeros(3, classes, dtype=torch.int64)  # hits, asked and predicted by class
        self.pixels: list[torch.Tensor] = []  # by chunk

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
        if number * CHUNK < self.kept:
            self.pixels.append(images)
        for offset in range(0, len(images), config.batch_size):
            part, first = slice(offset, offset + config.batch_size), number * CHUNK + offset
            try:
                features, logits = extractor(images[part])
                self.moments.update(features)
                if store is not None:
                    store.write(first, features)
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


def _merged(shares: list[_Share]) -> _Share:
    """Shares of the processes as one; chunk ``i`` was drawn by process ``i % processes``."""
    whole, *others = shares
    longest = max(len(share.pixels) for share in shares)
    whole.pixels = [share.pixels[i] for i in range(longest) for share in shares if i < len(share.pixels)]
    for other in others:
        whole.moments = whole.moments.merge(other.moments)
        whole.scores = whole.scores.merge(other.scores)
        whole.counts = whole.counts + other.counts
    return whole
