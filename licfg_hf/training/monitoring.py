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

from ..data.config import names_of
from ..data.image_sets import subset
from ..errors import InputError
from ..evaluation.evaluate import numbers_of, protocol_of
from ..evaluation.extractors import open_extractor
from ..evaluation.metrics import METRICS, Plan, chosen_metrics, require_metrics
from ..evaluation.options import TRAINING, EvaluationConfig, metrics_in, options_of
from ..evaluation.passes import Share, passed, reference_of, take_share
from ..evaluation.protocol import (
    FORMAT,
    PRESETS,
    EvaluationProtocol,
    Preset,
    differences,
    in_words,
    label,
    makes_samples,
)
from ..evaluation.result import parse_result
from ..evaluation.samples import (
    CHUNK,
    batch_statistics,
    has_batch_norm,
    require_finite_samples,
    settings_hash,
    weights_hash,
)
from ..files import user_path, write_json
from ..images import to_pixels
from ..staging import finish_update, updated
from .callbacks import Callback, is_every
from .checkpoint import DESCRIPTION_FILE
from .config import TrainingConfig
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


def protocol_for(config: TrainingConfig, data: Any, size: int) -> Preset:
    """The known protocol that a training names, on its data; an empty one where it names none.

    Args:
        data: name of the data set, where it has one.
        size: height of its images.
    """
    known = Preset("", {}) if config.protocol is None else PRESETS[config.protocol]
    return known.on(names_of(data) if isinstance(data, str) else (), size)


class GeneratorSamples:
    """Samples of a generator with matching buffers, moved by the flow if there is one; see ``SampleSource``."""

    name = "the generator"

    def __init__(self, trainer: "Trainer", network: nn.Module, flow: Flow, count: int, batch: int | None = None):
        self.network, self.batch, self.chunk_size = network, batch, batch or CHUNK
        self.draw = partial(trainer.sampler.chunk, network, self.chunk_size, flow)
        self.count, self.shape = count, trainer.images.shape
        self.classes, self.class_names = getattr(trainer.task, "num_classes", None), trainer.class_names
        self.facts = {
            "weights": trainer.exported,
            "batch_statistics": batch,
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
        begin = number * self.chunk_size
        size = min(self.chunk_size, self.count - begin)
        with batch_statistics(self.network, self.batch is not None):
            drawn = self.draw(number)[:size].float()
        require_finite_samples(drawn, self.name)
        images = to_pixels(drawn).cpu()
        labels = torch.arange(begin, begin + size)
        return images, None if self.classes is None else labels % self.classes


class Evaluation(Callback):
    """Evaluates the generator that would be exported every so many steps, and keeps the best one.

    How, the options say, and what they leave open the protocol that ``config.protocol`` names. The main process does
    so, and every process draws a share of the samples. ``result`` is the newest content of an ``eval.json``. An
    InputError says which metric cannot be measured, or what the protocol needs.

    Attributes:
        images: that samples are compared with: as many of the training's, or all; a protocol may have others.
        every: steps between evaluations; None evaluates only at the end.
        keep_best: metric by which the best is kept; None keeps none.
    """

    def __init__(self, trainer: "Trainer"):
        config, images = trainer.config, trainer.reference
        if len(images) < _FEWEST_EVALUATED:
            raise InputError(f"an evaluation needs at least {_FEWEST_EVALUATED} images, not {len(images)}")
        self.result: dict[str, Any] | None = None
        self.classes = getattr(trainer.task, "num_classes", None)
        self.protocol = protocol = trainer.protocol
        self.every = config.evaluate_every or protocol.training.get("evaluate_every")
        self.keep_best = config.keep_best or protocol.training.get("keep_best")
        if self.keep_best is not None and self.every is None:
            raise InputError(
                f"the protocol {config.protocol} keeps the best generator of a run, and its source does not say how "
                "often it is measured: pass --evaluate_every STEPS"
            )
        options = options_of(protocol)
        self.count = config.evaluate_samples or options.get("limit", 10_000)
        if config.protocol is None:
            self.count = min(self.count, len(images))
        self.images = images if config.protocol is not None else subset(images, self.count)
        given = {"features": config.evaluate_features, "limit": self.count}
        given |= {} if config.evaluate_metrics is None else {"metrics": metrics_in(config.evaluate_metrics)}
        defaults = {"metrics": ("fid", "pr"), "features": "pixels"}
        self.options = EvaluationConfig(
            model=config.output_dir,
            data="the training images" if trainer.reference is trainer.images else "the protocol's images",
            kid_subset_size=min(1000, self.count, len(self.images)),
            seed=config.seed,
            protocol=config.protocol,
            **{**defaults, **options, **{name: value for name, value in given.items() if value is not None}},
        )
        asked = self.options.batch_statistics if has_batch_norm(trainer.generator) else None
        self.batch = config.effective_generator_batch_size if asked == TRAINING else asked
        self.best: BestGenerator | None = None
        on_the_main_process(trainer.accelerator, lambda: self._open(trainer))  # first, since it may download
        if not trainer.accelerator.is_main_process:
            self._open(trainer)

    def _open(self, trainer: "Trainer") -> None:
        try:
            self.extractor = open_extractor(self.options.features, self.images.shape, trainer.device)
        except InputError as error:
            if trainer.config.protocol is None:
                raise
            raise InputError(f"--protocol {trainer.config.protocol}: {error}. Nothing was trained yet") from error
        require_metrics(Plan(self.options, self.count, None, self.images, self.extractor))
        if trainer.accelerator.is_main_process and self.keep_best is not None:
            self.best = BestGenerator(trainer, self.keep_best, self.metrics())

    def metrics(self) -> set[str]:
        """The metrics in a result."""
        chosen = chosen_metrics(self.options.metrics)
        return {metric.name for metric in chosen if self.classes is not None or not metric.conditional}

    def is_due(self, trainer: "Trainer") -> bool:
        return is_every(trainer.step, trainer.config.max_steps, self.every)

    def was_missed(self, trainer: "Trainer") -> bool:
        known = names_at(trainer.folder / "metrics.jsonl", trainer.step)
        return self.is_due(trainer) and known.isdisjoint(self.metrics())

    def look(self, trainer: "Trainer") -> None:
        with trainer.sampler.generator_for_sampling() as network:
            self.result = self.measure(trainer, network)
            shown = self.in_one_line(self.result)
            if self.best is not None and self.best.keep(self._as_best(self.result), trainer, network):
                shown += "  (the best so far, in best/)"
        numbers = {name: entry["value"] for name, entry in self.result["metrics"].items()}
        trainer.notify("evaluate", self.result)
        # Last: a resumed run evaluates again what is not in the log.
        trainer.accelerator.log(numbers, step=trainer.step)
        trainer.progress.say(f"step {trainer.step}: {shown}")

    @torch.no_grad()
    def measure(self, trainer: "Trainer", network: nn.Module, flow: Flow = None) -> dict[str, Any]:
        """The content of an eval.json of a generator with matching buffers, moved by the flow if there is one."""
        samples = GeneratorSamples(trainer, network, flow, self.count, self.batch)
        with trainer.progress.pause(f"step {trainer.step}: evaluating {self.count:,} samples"):
            real = reference_of(self.images, self.options.data, self.extractor, CHUNK)
            pool = partial(self._shares_of_all, trainer, network, samples)
            with passed(samples, self.extractor, self.options, real, pool) as measured:
                numbers = numbers_of(measured, samples.class_names)
        protocol = protocol_of(self.options, samples, self.images, self.extractor)
        return {
            "format": FORMAT,
            "name": self.options.model,
            "protocol": protocol.as_dict(),
            **numbers,
            "facts": {"device": trainer.run.facts["device"], "date": datetime.now(UTC).isoformat(timespec="seconds")},
            **self._notes(protocol),
        }

    def _notes(self, protocol: EvaluationProtocol) -> dict[str, list[str]]:
        """In what a measurement is not that of the protocol, as a part of a result."""
        name, asked = self.options.protocol, self.options.batch_statistics
        return {} if name is None else {"notes": self.protocol.deviations(name, protocol, asked)}

    def _as_best(self, result: dict[str, Any]) -> dict[str, Any]:
        protocol = {**result["protocol"], "selection": "best"}
        return {**result, "protocol": protocol, **self._notes(EvaluationProtocol.from_dict(protocol))}

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
                samples = GeneratorSamples(trainer, network, flow, self.count, self.batch)
                return self._share(trainer, samples, path)

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

    def by_the_protocol(self, trainer: "Trainer") -> list[str]:
        """How the protocol measures this run, in what the options differ from it, and the best so far; sentences."""
        name = self.options.protocol
        if name is None:
            return []
        samples = GeneratorSamples(trainer, trainer.final_generator, None, self.count, self.batch)
        samples.facts["selection"] = "final" if self.keep_best is None else "best"
        planned = protocol_of(self.options, samples, self.images, self.extractor)
        when = "at the end" if self.every is None else f"every {self.every:,} steps"
        how = f"{makes_samples(planned)}; {in_words(planned)}"
        lines = [f"Measured {when} by the protocol {name} ({self.protocol.source}): {how}."]
        own = {"evaluate_every": self.every, "keep_best": self.keep_best}
        others = [
            f"{option}: {own[option]}, and {wanted} in the protocol {name}"
            for option, wanted in self.protocol.training.items()
            if own[option] != wanted
        ]
        others = [*self._notes(planned)["notes"], *others]
        lines += [f"Other than published: {'; '.join(others)}."] if others else []
        if self.best is not None and self.best.best is not None:
            best, step = self.in_one_line(self.best.best), self.best.best["protocol"]["step"]
            lines.append(f"The best by {self.keep_best} is that of step {step:,}, in best/: {best}.")
        return lines

    def in_one_line(self, result: dict[str, Any]) -> str:
        """The numbers of a result, for a person."""
        features, metrics = self.extractor.name, result["metrics"]
        shown = "  ".join(f"{label(name, features)} {entry['value']:.4g}" for name, entry in metrics.items())
        return f"{self.count} samples: {shown}"


class BestGenerator:
    """The best generator of a run so far by the metric ``keep_best``, one of ``possible``, in output_dir/best.

    A best generator of another run, or of a later step than the one that the run goes on from, does not count.
    """

    def __init__(self, trainer: "Trainer", metric: str, possible: set[str]):
        config = trainer.config
        if metric not in possible:
            raise InputError(
                f"keep_best is {metric!r}, but --evaluate_metrics does not measure it. Choose one of: "
                f"{', '.join(sorted(possible))}"
            )
        self.metric, self.identity = metric, trainer.run.identity
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
