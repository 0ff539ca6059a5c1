"""Metrics during a training: the generator that would be exported, at an interval, and the best one kept."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..data import ImageSet
from ..data.image_sets import subset
from ..errors import InputError
from ..evaluation.evaluate import measure, protocol_of
from ..evaluation.extractors import open_extractor
from ..evaluation.metrics import METRICS, Plan, chosen_metrics, require_metrics
from ..evaluation.options import EvaluationConfig, metrics_in
from ..evaluation.passes import reference_of
from ..evaluation.protocol import FORMAT, EvaluationProtocol, differences, label
from ..evaluation.result import parse_result
from ..evaluation.samples import CHUNK, require_finite_samples, settings_hash, weights_hash, weights_of
from ..files import user_path, write_json
from ..images import to_pixels
from ..objective.functional_gradient import FunctionalGradientFlow
from ..staging import finish_update, updated
from .callbacks import Callback, is_every
from .checkpoint import DESCRIPTION_FILE, save_network
from .config import TrainingConfig
from .run_folder import superseded
from .tracking import names_at

if TYPE_CHECKING:
    from .trainer import Trainer

BEST_FOLDER, SELECTION_FILE = "best", "selection.json"
_FEWEST_EVALUATED = 4  # nearest neighbours with k = 3 need that many


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
        images = to_pixels(drawn).cpu()
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
        self.extractor = open_extractor(config.evaluate_features, images.shape, device)
        require_metrics(Plan(self.options, self.count, None, subset(images, self.count), self.extractor))

    def metrics(self) -> set[str]:
        """The metrics in a result."""
        chosen = chosen_metrics(self.options.metrics)
        return {metric.name for metric in chosen if self.classes is not None or not metric.conditional}

    def evaluate(self, samples: GeneratorSamples) -> dict[str, Any]:
        """The content of an eval.json."""
        chosen = subset(self.images, self.count)
        real = reference_of(chosen, "the training images", self.extractor, CHUNK)
        measured = measure(samples, self.extractor, self.options, real, quiet=True)
        protocol = protocol_of(self.options, samples, chosen, self.extractor).as_dict()
        return {"format": FORMAT, "name": self.options.model, "protocol": protocol, **measured}


class Evaluation(Callback):
    """Evaluates the generator that would be exported every ``evaluate_every`` steps, and keeps the best one.

    Args:
        evaluator: measures it; None on all processes but the main one.
        best: keeps the best one; None keeps none.

    Attributes:
        result: the newest content of an ``eval.json``.
    """

    def __init__(self, evaluator: "Evaluator | None", best: "BestGenerator | None"):
        self.evaluator, self.best = evaluator, best
        self.result: dict[str, Any] | None = None

    def is_due(self, trainer: "Trainer") -> bool:
        return is_every(trainer.step, trainer.config.max_steps, trainer.config.evaluate_every)

    def was_missed(self, trainer: "Trainer") -> bool:
        known = names_at(trainer.folder / "metrics.jsonl", trainer.step)
        return self.is_due(trainer) and known.isdisjoint(self._evaluator.metrics())

    @property
    def _evaluator(self) -> "Evaluator":
        if self.evaluator is None:
            raise RuntimeError("only the main process evaluates")
        return self.evaluator

    def look(self, trainer: "Trainer") -> None:
        """Evaluates the generator, logs the numbers and keeps the best one."""
        with trainer.sampler.generator_for_sampling() as network:
            self.result = self.measure(trainer, network)
            shown = self.in_one_line(self.result)
            if self.best is not None:
                protocol = {**self.result["protocol"], "selection": "best"}
                if self.best.keep({**self.result, "protocol": protocol}, partial(export_best, trainer, network)):
                    shown += "  (the best so far, in best/)"
        numbers = {name: entry["value"] for name, entry in self.result["metrics"].items()}
        trainer.notify("evaluate", self.result)
        # Last: a resumed run evaluates again what is not in the log.
        trainer.accelerator.log(numbers, step=trainer.step)
        trainer.progress.say(f"step {trainer.step}: {shown}")

    @torch.no_grad()
    def measure(
        self, trainer: "Trainer", network: nn.Module, flow: FunctionalGradientFlow | None = None
    ) -> dict[str, Any]:
        """The content of an eval.json of a generator with matching buffers.

        Args:
            flow: functional-gradient steps that follow the generator; None takes none.
        """
        evaluator = self._evaluator
        facts = {
            "weights": "raw" if trainer.average is None else "ema",
            "truncation": None,
            "flow": flow is not None,
            "dtype": "float32",
            "config_hash": settings_hash(trainer.run.identity),
            "training_seed": trainer.config.seed,
            "versions": trainer.run.facts["versions"],
            "reference": trainer.settings.get("data", "the training images"),
            "selection": "final",
            "step": trainer.step,
        }
        samples = GeneratorSamples(
            lambda number: trainer.sampler.chunk(network, number, CHUNK, flow),
            evaluator.count,
            trainer.images.shape,
            evaluator.classes,
            facts,
            class_names=trainer.class_names,
        )
        with trainer.progress.pause(f"step {trainer.step}: evaluating {evaluator.count:,} samples"):
            result = evaluator.evaluate(samples)
        here = {"device": trainer.run.facts["device"], "date": datetime.now(UTC).isoformat(timespec="seconds")}
        return {**result, "facts": here}

    def in_one_line(self, result: dict[str, Any]) -> str:
        """The numbers of a result, for a person."""
        evaluator = self._evaluator
        shown = "  ".join(
            f"{label(name, evaluator.extractor.name)} {entry['value']:.4g}"
            for name, entry in result["metrics"].items()
        )
        return f"{evaluator.count} samples: {shown}"


def evaluation_of(
    config: TrainingConfig,
    images: ImageSet,
    device: torch.device,
    classes: int | None,
    identity: dict[str, Any],
    first_step: int,
    is_main_process: bool,
) -> Evaluation | None:
    """The evaluations that the settings ask for; None where they ask for none.

    Args:
        classes: number of classes of a conditional GAN.
        identity, first_step: of the run; a best generator of another one, or of a later step, does not count.

    Raises:
        InputError: a metric cannot be measured.
    """
    if not config.evaluates:
        return None
    if len(images) < _FEWEST_EVALUATED:
        raise InputError(f"an evaluation needs at least {_FEWEST_EVALUATED} images, not {len(images)}")
    if not is_main_process:
        return Evaluation(None, None)
    evaluator = Evaluator(config, images, device, classes)
    keeps = config.keep_best is not None
    best = BestGenerator(config, evaluator.metrics(), identity, first_step) if keeps else None
    return Evaluation(evaluator, best)


def export_best(trainer: "Trainer", network: nn.Module, folder: Path) -> None:
    """Writes the generator as it is now, with all that belongs to it."""
    trainer.task.export(network, folder)
    save_network(trainer.discriminator, folder / "discriminator")
    trainer.generator_step.export(folder)
    weights = weights_of(folder)
    facts = {"identity": trainer.run.identity, **trainer.run.facts, "step": trainer.step, "weights": weights}
    write_json(folder / DESCRIPTION_FILE, {**facts, "selection": "best"})


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
                f"keep_best is {config.keep_best!r}, but --evaluate_metrics does not measure it. Choose one of: "
                f"{', '.join(sorted(possible))}"
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
        before, now = (EvaluationProtocol.from_dict(one["protocol"]) for one in (best, result))
        if differences(before, now, metric):
            return True  # measured in another way: the two cannot be compared, and the new way counts from now on
        value, known = (one["metrics"][metric]["value"] for one in (result, best))
        return value > known if METRICS[metric].higher_is_better else value < known

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
