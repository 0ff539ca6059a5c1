"""Metrics during a training: the generator that would be exported, at an interval, and the best one kept."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..data.sources import ImageSet
from ..data.subset import subset
from ..errors import InputError
from ..evaluation.evaluate import measure, protocol_of, reference_of
from ..evaluation.features import open_extractor
from ..evaluation.options import METRICS, EvaluationConfig, metrics_in
from ..evaluation.protocol import FORMAT, Protocol, differences
from ..evaluation.protocol import METRICS as KNOWN
from ..evaluation.result import parse_result
from ..evaluation.samples import CHUNK, require_finite_samples, weights_hash, weights_of
from ..files import user_path, write_json
from ..staging import finish_update, updated
from .config import TrainingConfig
from .run_folder import superseded

BEST_FOLDER, SELECTION_FILE = "best", "selection.json"


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
    class_names: tuple[str, ...] | None = None

    def chunk(self, number: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        size = min(CHUNK, self.count - number * CHUNK)
        drawn = self.draw(number)[:size].float()
        require_finite_samples(drawn, self.name)
        images = ((drawn + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()
        labels = torch.arange(number * CHUNK, number * CHUNK + size)
        return images, None if self.classes is None else labels % self.classes


class Evaluator:
    """Evaluates generators of one run against its training images.

    Args:
        config: of the training; ``evaluate_*``.
        images: the training images.
        device: of the extractor.
        classes: number of classes of a conditional GAN.

    Raises:
        InputError: the extractor cannot be had, or a metric is not possible with it.
    """

    def __init__(self, config: TrainingConfig, images: ImageSet, device: torch.device, classes: int | None):
        self.images, self.classes = images, classes
        self.count = min(config.evaluate_samples or 10_000, len(images))
        self.options = EvaluationConfig(
            model=config.output_dir,
            data="the training images",
            metrics=metrics_in(config.evaluate_metrics),
            features=config.evaluate_features,
            limit=self.count,
            kid_subset_size=min(1000, self.count),
            seed=config.seed,
        )
        if "nd" in self.options.metrics:
            raise InputError("nd wants held-out images: measure it with licfg-hf evaluate")
        self.extractor = open_extractor(config.evaluate_features, images.shape, device)
        if "is" in self.options.metrics and self.count < self.options.is_splits:
            raise InputError(f"is over {self.options.is_splits} splits needs as many samples, not {self.count}")
        if self.extractor.classes is None and {"is", "acc"} & set(self.options.metrics):
            raise InputError(f"is and acc need class logits, which {self.extractor.name} does not give")

    def metrics(self) -> set[str]:
        """What a result holds."""
        found = {name for metric in self.options.metrics for name in METRICS[metric]}
        return found if self.classes is not None else found - {"class_accuracy"}

    def evaluate(self, samples: GeneratorSamples) -> dict[str, Any]:
        """The content of an eval.json."""
        chosen = subset(self.images, self.count)
        real, real_features = reference_of(chosen, "the training images", self.extractor, CHUNK)
        measured = measure(samples, self.extractor, self.options, real, real_features, quiet=True)
        protocol = protocol_of(self.options, samples, chosen, self.extractor, None).as_dict()
        return {"format": FORMAT, "name": self.options.model, "protocol": protocol, **measured}


class BestGenerator:
    """The best generator of a run so far, in output_dir/best.

    Args:
        config: of the training; ``keep_best`` is the metric.
        possible: the metrics of a result.
        identity: what makes the run this run; a best generator of another one does not count.
        step: that the run goes on from; a best generator of a later step does not count.

    Raises:
        InputError: ``keep_best`` is none of the metrics.
    """

    def __init__(self, config: TrainingConfig, possible: set[str], identity: dict[str, Any], step: int):
        if config.keep_best not in possible:
            raise InputError(
                f"keep_best is one of {', '.join(sorted(possible))}, not {config.keep_best!r}; what it names must be "
                "among --evaluate_metrics"
            )
        self.metric, self.identity = config.keep_best, identity
        self.place = user_path(config.output_dir) / BEST_FOLDER
        self.best = self._recall(step)

    def _recall(self, step: int) -> dict[str, Any] | None:
        """The result of the best generator so far, where it is of this run and not of a step still to come."""
        finish_update(self.place)
        try:
            best = json.loads((self.place / SELECTION_FILE).read_text(encoding="utf-8"))
            parse_result(best["result"], str(self.place))
            known = best["identity"] == self.identity and best["result"]["protocol"]["step"] <= step
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return best["result"] if known else None

    def _is_better(self, result: dict[str, Any]) -> bool:
        metric, best = self.metric, self.best
        if best is None or metric not in best["metrics"]:
            return True
        if differences(*(Protocol.from_dict(one["protocol"]) for one in (best, result)), metric):
            return True  # measured in another way: the two cannot be compared, and the new way counts from now on
        value, known = (one["metrics"][metric]["value"] for one in (result, best))
        return value > known if KNOWN[metric].higher_is_better else value < known

    def keep(self, result: dict[str, Any], export: Callable[[Path], None]) -> bool:
        """Exports to output_dir/best if the result is the best so far; it replaces the last best as a whole.

        Args:
            result: of ``Evaluator.evaluate``.
            export: writes the generator into a folder.
        """
        if not self._is_better(result):
            return False
        self.place.mkdir(exist_ok=True)
        with updated(self.place) as update:
            export(update.place)
            digest = weights_hash(weights_of(update.place), flow=False)
            result = {**result, "facts": {**result.get("facts", {}), "weights": digest}}
            write_json(update.place / "eval.json", result)
            write_json(update.place / SELECTION_FILE, {"by": self.metric, "identity": self.identity, "result": result})
            update.removed += superseded(self.place, update.place)
        self.best = result
        return True
