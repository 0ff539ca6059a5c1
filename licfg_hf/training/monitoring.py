"""Metrics during a training: the generator that would be exported, at an interval, and the best one kept."""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..data.sources import ImageSet
from ..errors import InputError
from ..evaluation.evaluate import FORMAT, metrics_of, own_share, reference_of
from ..evaluation.features import open_extractor
from ..evaluation.options import METRICS, EvaluationConfig
from ..evaluation.protocol import METRICS as KNOWN
from ..evaluation.protocol import Protocol
from ..evaluation.samples import CHUNK
from ..evaluation.statistics import FeatureFile
from ..files import write_json
from .config import TrainingConfig

BEST_FOLDER = "best"


@dataclass
class GeneratorSamples:
    """Samples of a generator in training.

    Attributes:
        draw: (number of a chunk) -> images (CHUNK, channels, height, width) in [-1, 1].
    """

    draw: Callable[[int], torch.Tensor]
    count: int
    shape: tuple[int, int, int]
    classes: int | None
    facts: dict[str, Any]
    name: str = "the generator"

    def chunk(self, number: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        size = min(CHUNK, self.count - number * CHUNK)
        images = ((self.draw(number)[:size].float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()
        return images, None if self.classes is None else torch.arange(size) % self.classes


class Monitor:
    """Evaluates the generator against the training images.

    Args:
        config: of the training; ``evaluate_*`` and ``keep_best``.
        images: the training images.
        device: of the extractor.

    Raises:
        InputError: the extractor cannot be had, or a metric is not possible with it.
    """

    def __init__(self, config: TrainingConfig, images: ImageSet, device: torch.device):
        self.config, self.images = config, images
        count = min(config.evaluate_samples or 10_000, len(images))
        self.options = EvaluationConfig(
            model=config.output_dir,
            data="the training images",
            metrics=tuple(config.evaluate_metrics),
            features=config.evaluate_features,
            limit=count,
            kid_subset_size=min(1000, count),
            seed=config.seed,
        )
        self.extractor = open_extractor(config.evaluate_features, images.shape, device)
        possible = {name for metric in self.options.metrics for name in METRICS[metric]}
        if self.extractor.classes is None and {"is", "acc"} & set(self.options.metrics):
            raise InputError(f"is and acc need class logits, which {self.extractor.name} does not give")
        if config.keep_best is not None and config.keep_best not in possible:
            raise InputError(f"keep_best is one of {', '.join(sorted(possible))}, not {config.keep_best!r}")

    def evaluate(self, samples: GeneratorSamples, step: int) -> dict[str, Any]:
        """The content of an eval.json, but for the name's sake."""
        count = min(len(self.images), self.options.limit)
        real, real_features = reference_of(self.images, count, "the training images", self.extractor, CHUNK)
        with tempfile.TemporaryDirectory(prefix="licfg_hf-") as folder:
            store = FeatureFile(Path(folder) / "samples.npy", (samples.count, self.extractor.dim))
            gathered = own_share(samples, self.extractor, self.options, store, 0, 1, quiet=True)
            metrics = metrics_of(self.options, gathered, store, real, real_features, self.extractor)
        protocol = self._protocol(samples, count, step)
        return {"format": FORMAT, "name": self.config.output_dir, "protocol": protocol, "metrics": metrics}

    def _protocol(self, samples: GeneratorSamples, count: int, step: int) -> dict[str, Any]:
        options, extractor = self.options, self.extractor
        return Protocol(
            extractor=extractor.name,
            extractor_hash=extractor.digest,
            preprocessing=extractor.preprocessing,
            reference="the training images",
            reference_fingerprint=self.images.fingerprint,
            reference_split="train",
            reference_count=count,
            samples=samples.count,
            seed=options.seed,
            jpeg=None,
            neighbours=options.neighbours,
            kid_subsets=options.kid_subsets,
            kid_subset_size=options.kid_subset_size,
            is_splits=options.is_splits,
            versions={},
            step=step,
            **samples.facts,
        ).as_dict()

    def keep(self, result: dict[str, Any], folder: Path, export: Callable[[Path], None]) -> bool:
        """Exports to ``folder/best`` if the result is the best so far; it replaces the last best as a whole.

        Args:
            result: of ``evaluate``.
            folder: of the run.
            export: writes the generator into a folder.
        """
        metric, place = self.config.keep_best, folder / BEST_FOLDER
        value, known = result["metrics"][metric]["value"], best_value(place, metric)
        better = known is None or (value > known if KNOWN[metric].higher_is_better else value < known)
        if not better:
            return False
        partial = folder / f".{BEST_FOLDER}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        export(partial)
        write_json(partial / "eval.json", {**result, "selected_by": metric})
        old = folder / f".{BEST_FOLDER}.old"
        shutil.rmtree(old, ignore_errors=True)
        if place.exists():
            place.rename(old)
        partial.rename(place)
        shutil.rmtree(old, ignore_errors=True)
        return True


def best_value(place: Path, metric: str) -> float | None:
    """The metric of the best checkpoint so far; None where there is none."""
    try:
        return json.loads((place / "eval.json").read_text(encoding="utf-8"))["metrics"][metric]["value"]
    except (OSError, ValueError, KeyError):
        return None
