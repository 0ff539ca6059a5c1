"""Metrics during a training: the generator that would be exported, at an interval, and the best one kept."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object
from torch import nn

from ..data.image_sets import subset
from ..errors import InputError
from ..evaluation.evaluate import numbers_of, protocol_of
from ..evaluation.extractors import open_extractor
from ..evaluation.metrics import METRICS, Plan, chosen_metrics, require_metrics
from ..evaluation.options import EvaluationConfig, metrics_in
from ..evaluation.passes import Share, passed, reference_of, take_share
from ..evaluation.protocol import FORMAT, EvaluationProtocol, differences, label
from ..evaluation.result import parse_result
from ..evaluation.samples import CHUNK, require_finite_samples, settings_hash, weights_hash
from ..files import user_path, write_json
from ..images import to_pixels
from ..staging import finish_update, updated
from .callbacks import Callback, is_every
from .checkpoint import DESCRIPTION_FILE
from .export import facts_of_model, write_networks
from .interrupts import StopRequested
from .run import ask_for_help, on_the_main_process, sendable
from .run_folder import superseded
from .tasks import Flow
from .tracking import names_at

if TYPE_CHECKING:
    from .trainer import Trainer

BEST_FOLDER, SELECTION_FILE = "best", "selection.json"
_FEWEST_EVALUATED = 4  # nearest neighbours with k = 3 need that many


class GeneratorSamples:
    """Samples of a generator with matching buffers, moved by the flow if there is one; see ``SampleSource``."""

    name = "the generator"

    def __init__(self, trainer: "Trainer", network: nn.Module, flow: Flow, count: int):
        self.draw = partial(trainer.sampler.chunk, network, CHUNK, flow)
        self.count, self.shape = count, trainer.images.shape
        self.classes, self.class_names = getattr(trainer.task, "num_classes", None), trainer.class_names
        self.facts = {
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

    def chunk(self, number: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        size = min(CHUNK, self.count - number * CHUNK)
        drawn = self.draw(number)[:size].float()
        require_finite_samples(drawn, self.name)
        images = to_pixels(drawn).cpu()
        labels = torch.arange(number * CHUNK, number * CHUNK + size)
        return images, None if self.classes is None else labels % self.classes


class Evaluation(Callback):
    """Evaluates the generator that would be exported every ``evaluate_every`` steps, and keeps the best one.

    The main process does so, and every process draws a share of the samples. ``result`` is the newest content of an
    ``eval.json``. An InputError says which metric cannot be measured.
    """

    def __init__(self, trainer: "Trainer"):
        config, images = trainer.config, trainer.images
        if len(images) < _FEWEST_EVALUATED:
            raise InputError(f"an evaluation needs at least {_FEWEST_EVALUATED} images, not {len(images)}")
        self.result: dict[str, Any] | None = None
        self.classes = getattr(trainer.task, "num_classes", None)
        self.count = min(config.evaluate_samples or 10_000, len(images))
        self.images = subset(images, self.count)
        self.options = EvaluationConfig(
            model=config.output_dir,
            data="the training images",
            metrics=metrics_in(config.evaluate_metrics),
            features=config.evaluate_features,
            limit=self.count,
            kid_subset_size=min(1000, self.count),
            seed=config.seed,
        )
        self.best: BestGenerator | None = None
        on_the_main_process(trainer.accelerator, lambda: self._open(trainer))  # first, since it may download
        if not trainer.accelerator.is_main_process:
            self._open(trainer)

    def _open(self, trainer: "Trainer") -> None:
        self.extractor = open_extractor(self.options.features, self.images.shape, trainer.device)
        require_metrics(Plan(self.options, self.count, None, self.images, self.extractor))
        if trainer.accelerator.is_main_process and trainer.config.keep_best is not None:
            self.best = BestGenerator(trainer, self.metrics())

    def metrics(self) -> set[str]:
        """The metrics in a result."""
        chosen = chosen_metrics(self.options.metrics)
        return {metric.name for metric in chosen if self.classes is not None or not metric.conditional}

    def is_due(self, trainer: "Trainer") -> bool:
        return is_every(trainer.step, trainer.config.max_steps, trainer.config.evaluate_every)

    def was_missed(self, trainer: "Trainer") -> bool:
        known = names_at(trainer.folder / "metrics.jsonl", trainer.step)
        return self.is_due(trainer) and known.isdisjoint(self.metrics())

    def look(self, trainer: "Trainer") -> None:
        with trainer.sampler.generator_for_sampling() as network:
            self.result = self.measure(trainer, network)
            shown = self.in_one_line(self.result)
            if self.best is not None:
                protocol = {**self.result["protocol"], "selection": "best"}
                if self.best.keep({**self.result, "protocol": protocol}, trainer, network):
                    shown += "  (the best so far, in best/)"
        numbers = {name: entry["value"] for name, entry in self.result["metrics"].items()}
        trainer.notify("evaluate", self.result)
        # Last: a resumed run evaluates again what is not in the log.
        trainer.accelerator.log(numbers, step=trainer.step)
        trainer.progress.say(f"step {trainer.step}: {shown}")

    @torch.no_grad()
    def measure(self, trainer: "Trainer", network: nn.Module, flow: Flow = None) -> dict[str, Any]:
        """The content of an eval.json of a generator with matching buffers, moved by the flow if there is one."""
        samples = GeneratorSamples(trainer, network, flow, self.count)
        with trainer.progress.pause(f"step {trainer.step}: evaluating {self.count:,} samples"):
            real = reference_of(self.images, self.options.data, self.extractor, CHUNK)
            pool = partial(self._shares_of_all, trainer, network, samples)
            with passed(samples, self.extractor, self.options, real, pool) as measured:
                numbers = numbers_of(measured, samples.class_names)
        return {
            "format": FORMAT,
            "name": self.options.model,
            "protocol": protocol_of(self.options, samples, self.images, self.extractor).as_dict(),
            **numbers,
            "facts": {"device": trainer.run.facts["device"], "date": datetime.now(UTC).isoformat(timespec="seconds")},
        }

    def _shares_of_all(
        self, trainer: "Trainer", network: nn.Module, samples: GeneratorSamples, path: Path
    ) -> list[Share]:
        """The shares of all processes, for the main one; an error of one of them, or its wish to stop, is all's."""
        share = partial(self._share, trainer, samples, path)
        if trainer.accelerator.num_processes == 1:
            return [share()]
        with trainer.signals.held_back():
            # Running statistics are those of a process's own images: the main one's count, as in what is exported.
            buffers = {name: buffer.cpu() for name, buffer in network.named_buffers()}
            ask_for_help((path, samples.facts["flow"], buffers))
            shares = self._exchanged(trainer, share)
        for found in shares:
            if isinstance(found, Exception):
                raise found
        if None in shares:
            raise StopRequested
        return shares

    @torch.no_grad()
    def help(self, trainer: "Trainer", request: tuple[Path, bool, dict[str, torch.Tensor]]) -> None:
        """What the other processes do while the main one evaluates."""
        path, is_moved, buffers = request

        def share() -> Share:
            with trainer.sampler.generator_for_sampling(buffers) as network:
                flow = trainer.generator_step.flow() if is_moved else None
                return self._share(trainer, GeneratorSamples(trainer, network, flow, self.count), path)

        self._exchanged(trainer, share)

    def _share(self, trainer: "Trainer", samples: GeneratorSamples, path: Path) -> Share:
        index, processes = trainer.accelerator.process_index, trainer.accelerator.num_processes
        return take_share(samples, self.extractor, self.options, path, index, processes, quiet=True)

    def _exchanged(self, trainer: "Trainer", share: Callable[[], Share]) -> list[Any]:
        """Of every process its share, an error, or None after a signal."""
        own: list[Any] = []
        try:
            trainer.signals.until_stopped(lambda: own.append(share()))
        except Exception as error:
            own = [sendable(error, trainer.accelerator.process_index)]
        return gather_object(own or [None])

    def in_one_line(self, result: dict[str, Any]) -> str:
        """The numbers of a result, for a person."""
        features, metrics = self.extractor.name, result["metrics"]
        shown = "  ".join(f"{label(name, features)} {entry['value']:.4g}" for name, entry in metrics.items())
        return f"{self.count} samples: {shown}"


class BestGenerator:
    """The best generator of a run so far by the metric ``keep_best``, one of ``possible``, in output_dir/best.

    A best generator of another run, or of a later step than the one that the run goes on from, does not count.
    """

    def __init__(self, trainer: "Trainer", possible: set[str]):
        config = trainer.config
        if config.keep_best not in possible:
            raise InputError(
                f"keep_best is {config.keep_best!r}, but --evaluate_metrics does not measure it. Choose one of: "
                f"{', '.join(sorted(possible))}"
            )
        self.metric, self.identity = config.keep_best, trainer.run.identity
        self.place = user_path(config.output_dir) / BEST_FOLDER
        self.best = self._recall(trainer.run.first_step)

    def _recall(self, step: int) -> dict[str, Any] | None:
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

    def keep(self, result: dict[str, Any], trainer: "Trainer", network: nn.Module) -> bool:
        """Exports a generator with the result of an evaluation if it is the best so far, in place of the last best."""
        if not self._is_better(result):
            return False
        self.place.mkdir(exist_ok=True)
        with updated(self.place) as update:
            write_networks(trainer, network, update.place)
            facts = facts_of_model(trainer, update.place)
            write_json(update.place / DESCRIPTION_FILE, {**facts, "selection": "best"})
            digest = weights_hash(facts["weights"], flow=False)
            result = {**result, "facts": {**result.get("facts", {}), "weights": digest}}
            write_json(update.place / "eval.json", result)
            write_json(update.place / SELECTION_FILE, {"by": self.metric, "identity": self.identity, "result": result})
            update.removed += superseded(self.place, update.place)
        self.best = result
        return True
