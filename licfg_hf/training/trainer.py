"""The training loop on Accelerate: two networks, one loss each, checkpoints, samples, and a finished pipeline."""

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, DynamoBackend
from PIL import Image
from safetensors import SafetensorError
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..data.loader import StepImages, StepLoader
from ..data.sources import ImageSet, as_image_set, usable_cores
from ..errors import FolderInUse, InputError, TrainingDiverged, TrainingInterrupted
from ..evaluation.protocol import label
from ..evaluation.report import report_files
from ..evaluation.samples import CHUNK, settings_hash, weights_hash, weights_of
from ..files import system_error, user_path, write_json
from ..functional_gradient import FunctionalGradientFlow
from ..hub.access import require_accepted_token
from ..hub.card import write_card
from ..hub.publish import publish, push_command
from ..hub.results import RESULT_FILES, stored_result
from ..losses import AdversarialLoss
from ..models.class_names import class_names, name_classes
from ..pipelines.base import grid_columns, image_grid, save_image
from ..seeds import Purpose, seed_for, seed_globally
from ..staging import Update, updated
from .checkpoint import (
    DESCRIPTION_FILE,
    checkpoints,
    load_description,
    load_state,
    save_checkpoint,
    save_network,
    why_not_saveable,
)
from .compilation import CompiledTerms, prepare_for_compilation
from .config import TrainingConfig
from .dry_check import dry_check, require_trainable
from .estimate import seconds_per_step
from .generator_steps import AdversarialStep, Batch, Game, GeneratorStep
from .identity import identity_of
from .interrupts import SharedStop, StopSignals
from .memory import is_lack_of_memory, require_sizes
from .monitoring import BestGenerator, Evaluator, GeneratorSamples
from .optimizers import load_optimizer, make_optimizer
from .progress import Progress, duration
from .run_folder import Home, claim_folder, held, other_circumstances, superseded
from .settling import settled
from .steps import (
    LazyPenalty,
    Task,
    Terms,
    discriminator_terms,
    generator_terms,
    in_words,
    iterated_once,
    optimize,
)
from .term_log import TermLog
from .tracking import drop_lines_after, make_trackers, names_at
from .untouched import copied, untouched
from .warm_start import warm_start

_PACKAGES = ("licfg_hf", "torch", "diffusers", "accelerate", "datasets", "numpy")
_LONG_RUN_SECONDS = 24 * 3600
_FEWEST_EVALUATED = 4  # nearest neighbours with k = 3 need that many


class TrainableTask(Task, Protocol):
    """What the trainer asks of a task besides what a step needs."""

    def sample(
        self,
        generator: nn.Module,
        count: int,
        shape: tuple[int, int, int],
        rng: torch.Generator,
        flow: FunctionalGradientFlow | None = None,
        first: int = 0,
    ) -> torch.Tensor: ...

    def standing_batch(
        self, generator: nn.Module, count: int, shape: tuple[int, int, int], rng: torch.Generator
    ) -> None: ...

    def export(self, generator: nn.Module, folder: Path) -> str | None: ...


def random_generator(
    device: torch.device, seed: int, purpose: Purpose, step: int = 0, rank: int = 0
) -> torch.Generator:
    """A random generator with a seed of ``seed_for``."""
    return torch.Generator(device).manual_seed(seed_for(seed, purpose, step, rank))


def to_unit_range(pixels: torch.Tensor, flip: bool, rng: torch.Generator) -> torch.Tensor:
    """uint8 images -> float32 in [-1, 1], on the device of ``rng``, each mirrored with probability 1/2 if ``flip``."""
    images = pixels.to(rng.device).float() / 127.5 - 1
    if not flip:
        return images
    mirrored = torch.rand(len(images), 1, 1, 1, generator=rng, device=rng.device) < 0.5
    return torch.where(mirrored, images.flip(3), images)


def device_name(device: torch.device) -> str:
    """What a person calls the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"


def _named(penalties: list[LazyPenalty]) -> list[LazyPenalty]:
    """The penalties, each under a name of its own: penalty, penalty_2, ..."""
    names: list[str] = []
    for penalty in penalties:
        count = 1 + sum(other.name == penalty.name for other in penalties[: len(names)])
        names.append(penalty.name if count == 1 else f"{penalty.name}_{count}")
    return [replace(penalty, name=name) for penalty, name in zip(penalties, names, strict=True)]


class Trainer:
    """Trains a generator against a discriminator on Accelerate and leaves a folder that can be loaded and shared.

    Everything random in a step follows from (seed, step, process), so a run that was killed and resumed ends, on the
    CPU, in bit-identical weights, given the same max_steps, number of threads and versions.

    Args:
        config: the settings of the loop.
        generator: any module that the task can call.
        discriminator: any module that the task can call; it returns logits (batch,) or (batch, 1), or an object
            with such ``logits``.
        images: what ``open_images`` returns, a uint8 tensor (n, channels, height, width) or a ``datasets.Dataset``.
        task: how real and generated points come from images: ``GANTask`` or ``DDGANTask``.
        loss: the adversarial loss.
        penalties: penalties, each due at every update, or wrapped in ``LazyPenalty``.
        generator_step: how the generator learns; None means by its part of the loss. ``FunctionalGradientStep`` and
            ``StagedFunctionalGradient`` follow the functional gradient.
        settings: further settings for the model card and training.json, such as those of a recipe.
        card: further variables of the model card's template.

    Raises:
        InputError: the settings do not fit the processes, the data or the output folder; the message says how.
    """

    def __init__(
        self,
        config: TrainingConfig,
        generator: nn.Module,
        discriminator: nn.Module,
        images: ImageSet | torch.Tensor | Any,
        task: TrainableTask,
        loss: AdversarialLoss,
        penalties: Sequence[LazyPenalty | Any] = (),
        settings: dict[str, Any] | None = None,
        card: dict[str, Any] | None = None,
        generator_step: GeneratorStep | None = None,
    ):
        for network, who in ((generator, "generator"), (discriminator, "discriminator")):
            require_trainable(network, who)
        self.config, self.task, self.loss = config, task, loss
        self.generator, self.discriminator = generator.train(), discriminator.train()
        self.images = as_image_set(images)
        self.penalties = _named([p if isinstance(p, LazyPenalty) else LazyPenalty(p) for p in penalties])
        self.generator_step = generator_step or AdversarialStep()
        self.settings, self.card = settings or {}, card or {}
        self.folder = user_path(config.output_dir)
        self.step = 0
        self._began, self._device_seconds_before = time.monotonic(), 0.0
        self._finished: dict[str, Any] = {}  # what training.json says of the model that lies in the folder
        self.accelerator = self._accelerator()
        self.device = self.accelerator.device
        processes = self.accelerator.num_processes
        self.micro_batch_size = config.micro_batch_size(config.batch_size, processes)
        self.generator_micro_batch_size = config.micro_batch_size(config.effective_generator_batch_size, processes)
        self._require_supported()
        if config.push_to_hub:
            self._on_the_main_process(self._require_hub)
        for network in (generator, discriminator):
            self._warn_unless_saveable(network)
        self._require_enough_images()
        require_sizes(config, self.images.shape)
        self.loader = StepLoader(
            self.images,
            config.batch_size,
            config.effective_generator_batch_size,
            config.discriminator_steps,
            config.seed,
            self.accelerator.process_index,
            processes,
            self.device,
            self.generator_step.interval,
        )
        self._notes = dry_check(
            generator,
            discriminator,
            task,
            loss,
            self.penalties,
            self.loader.images,
            min(self.micro_batch_size, self.generator_micro_batch_size),
            self.accelerator,
        )
        self.optimizers = {
            "generator": make_optimizer(config.generator_optimizer, generator, self.device),
            "discriminator": make_optimizer(config.discriminator_optimizer, discriminator, self.device),
        }
        self.identity = self._identity()
        name_classes(generator, self.images.class_names or ())
        self._resume_from = self._claim_folder()
        if config.init_from is not None and self._resume_from is None:
            self._warm_start(config.init_from)
        self.evaluator, self.best, self.result = None, None, None
        if config.evaluates and self.accelerator.is_main_process:
            self.evaluator = Evaluator(config, self.images, self.device, getattr(task, "num_classes", None))
            if config.keep_best is not None:
                begun = 0 if self._resume_from is None else load_description(self._resume_from)["step"]
                self.best = BestGenerator(config, self.evaluator.metrics(), self.identity, begun)
        self.generator_step.attach(discriminator, self.accelerator, config)
        # The average is copied before ``prepare`` wraps the forward pass in autocast: it samples in full precision.
        self.average = None
        if config.ema_decay is not None:
            average = get_ema_multi_avg_fn(config.ema_decay)
            self.average = AveragedModel(nn.Identity(), multi_avg_fn=average).to(self.device)
            self.average.module = copied(generator).requires_grad_(False)

    def _accelerator(self) -> Accelerator:
        config = self.config
        asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        if asked not in ("no", config.mixed_precision):
            raise InputError(f"accelerate asks for {asked}: pass --mixed_precision {asked} to the recipe instead")
        try:
            accelerator = Accelerator(
                mixed_precision=config.mixed_precision,
                log_with=make_trackers(config.trackers, self.folder),
                project_dir=str(self.folder),
            )
        except ValueError as error:
            raise InputError(f"accelerate refuses these settings: {str(error).splitlines()[0]}") from error
        accelerator.gradient_accumulation_steps = 1  # ``optimize`` divides by the micro-batches itself
        return accelerator

    def _require_supported(self) -> None:
        exact = any(getattr(penalty.penalty, "method", "exact") == "exact" for penalty in self.penalties)
        kind = self.accelerator.distributed_type
        if exact and kind in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            raise InputError(
                f"{kind.value} shards the discriminator's parameters, and an exact gradient penalty cannot "
                "differentiate through them twice: launch with DDP (--multi_gpu) instead"
            )
        if exact and self.accelerator.state.dynamo_plugin.backend != DynamoBackend.NO:
            raise InputError(
                "accelerate asks for torch.compile, and an exact gradient penalty cannot differentiate twice through "
                "a discriminator that it compiled: launch without --dynamo_backend, and pass --torch_compile true"
            )
        for size in (self.micro_batch_size, self.generator_micro_batch_size):
            for layer in self.discriminator.modules():
                if hasattr(layer, "require_batch"):
                    layer.require_batch(size)
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32: full float32 range, 10-bit mantissa in products

    def _warn_unless_saveable(self, network: nn.Module) -> None:
        reason = why_not_saveable(network)
        if reason is not None:
            self.accelerator.print(
                f"WARNING: {type(network).__name__} will be saved as plain weights, without from_pretrained: {reason}"
            )

    def _require_enough_images(self) -> None:
        if self.config.evaluates and len(self.images) < _FEWEST_EVALUATED:
            raise InputError(f"an evaluation needs at least {_FEWEST_EVALUATED} images, not {len(self.images)}")

    def _identity(self) -> dict[str, Any]:
        images = self.images
        return identity_of(
            {"generator": self.generator, "discriminator": self.discriminator},
            self.task,
            training=self.config.identity(),
            loss=self.loss,
            penalties=self.penalties,
            generator_step=self.generator_step,
            images={"fingerprint": images.fingerprint, "count": len(images), "shape": images.shape},
        )

    def _facts(self) -> dict[str, Any]:
        """What a checkpoint and the card say of the run."""
        return {
            "settings": {**asdict(self.config), **self.settings},
            "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
            "device": device_name(self.device),
            "processes": self.accelerator.num_processes,
            "threads": torch.get_num_threads(),
        }

    @property
    def device_seconds(self) -> float | None:
        """What the run took so far: seconds on the clock times processes, with all that it evaluated and wrote.

        A resumed run counts on from its checkpoint; what was lost after that does not count. To export a finished run
        again costs nothing. None where the checkpoint does not say.
        """
        if self._finished.get("step") == self.step and "device_seconds" in self._finished:
            return self._finished["device_seconds"]
        known, here = self._device_seconds_before, time.monotonic() - self._began
        return None if known is None else known + here * self.accelerator.num_processes

    def _claim_folder(self) -> Path | None:
        return self._on_the_main_process(lambda: claim_folder(self.folder, self.config, self.identity, self._facts()))

    def _require_hub(self) -> None:
        try:
            require_accepted_token()
        except InputError as error:
            raise InputError(f"push_to_hub: {error}. Nothing was trained yet") from error

    def _on_the_main_process(self, action: Callable[[], Any]) -> Any:
        """The main process does something and tells the others what came of it.

        Raises:
            InputError: on every process, where it was raised on the main one.
        """
        result, problem = None, None
        if self.accelerator.is_main_process:
            try:
                result = action()
            except InputError as error:
                problem = error
        found = [result, problem]
        if self.accelerator.num_processes > 1:
            torch.distributed.broadcast_object_list(found)
        result, problem = found
        if problem is not None:
            raise problem
        return result

    def _warm_start(self, source: str) -> None:
        misfits = warm_start(source, self.generator, self.discriminator)
        fit = f"{len(misfits)} weights or settings do not fit" if misfits else "all weights and settings fit"
        self.accelerator.print(f"the weights are those of {source}: {fit}")
        for line in misfits:
            self.accelerator.print(f"  {line}")

    # ---- the loop ---------------------------------------------------------------------------------------------

    def train(self) -> Path:
        """Trains to ``max_steps`` and exports; returns the output folder, which then holds the finished pipeline.

        Raises:
            TrainingDiverged: a loss or weight became NaN or infinite.
            TrainingInterrupted: SIGTERM, SIGHUP or Ctrl-C, or the launcher has ended; a checkpoint was written. Or the
                output folder was renamed.
            FolderInUse: another process trains in the output folder.
        """
        with ExitStack() as stack:
            self._on_the_main_process(lambda: self._hold_folder(stack))
            self._train()
        return self.folder

    def _hold_folder(self, stack: ExitStack) -> None:
        stack.enter_context(held(self.folder))
        self._home = stack.enter_context(Home(self.folder))
        newest = checkpoints(self._checkpoint_folder)[-1:]
        if self.config.resume == "auto" and newest not in ([], [self._resume_from]):
            raise FolderInUse(f"another process has trained in {self.folder} meanwhile: give the command again")

    def _train(self) -> None:
        config, self._began = self.config, time.monotonic()
        if self._resume_from is None:
            with suppress(OverflowError):  # of an exponential loss; the training itself then says so
                self._announce_long_run()
        self._prepare()
        self._announce()
        if self.accelerator.is_main_process:
            self._tidy_the_log()
        self.accelerator.init_trackers("licfg_hf")
        self.progress = Progress(self.step, config.max_steps, self.accelerator.is_main_process)
        self.terms = TermLog(self.accelerator)
        try:
            with StopSignals() as self.signals:
                self.stop = SharedStop(self.signals, self.accelerator, self.step)
                self._on_the_main_process(self._make_up_for_what_was_missed)
                for images in self.loader.steps(self.step, config.max_steps):
                    self._train_step(images)
                    self.step += 1
                    self._after_step()
                    self.progress.advance(self.step)
                self.signals.until_stopped(self._export_or_say_why_not)
                if self.signals.received:
                    raise TrainingInterrupted(self._stopped(saved=True), 128 + self.signals.received)
        except (TrainingDiverged, OverflowError) as error:
            raise TrainingDiverged(f"{error}; {self._last_checkpoint()}. Try a lower learning rate") from error
        finally:
            self.progress.close()
        self._publish()
        for tracker in self.accelerator.trackers:  # end_training would also end the process group, and later runs
            tracker.finish()

    def _prepare(self) -> None:
        # Channels last: convolutions are faster so, on the CPU as on accelerators; other tensors are left alone.
        self.generator.to(self.device, memory_format=torch.channels_last)
        self.discriminator.to(self.device, memory_format=torch.channels_last)
        if self._resume_from is not None:
            self._load(self._resume_from)
        networks = (self.generator, self.discriminator)
        if self.config.torch_compile:
            prepared = [prepare_for_compilation(self.accelerator, network) for network in networks]
        else:
            prepared = self.accelerator.prepare(*networks)
        self.prepared_generator, self.prepared_discriminator = prepared
        self.game = Game(
            self.accelerator,
            self.task,
            self.loss,
            self.penalties,
            self.generator,
            self.discriminator,
            self.prepared_generator,
            self.optimizers["generator"],
            self._compiled(generator_terms),
            self._micro_batches,
            self.micro_batch_size,
            self.generator_micro_batch_size,
            self.config.gradient_accumulation_steps,
        )

        self.discriminator_terms = self._compiled(discriminator_terms)

    def _compiled(self, terms: Callable[..., Terms]) -> Callable[..., Terms]:
        return CompiledTerms(terms, self.accelerator.print) if self.config.torch_compile else terms

    def _train_step(self, images: StepImages) -> None:
        config = self.config
        rng = random_generator(self.device, config.seed, "training", self.step, self.accelerator.process_index)
        # For what draws without a generator, such as dropout, and the points of penalties.
        seed_globally(seed_for(config.seed, "without a generator", self.step, self.accelerator.process_index))
        schedules = {"generator": config.generator_optimizer, "discriminator": config.discriminator_optimizer}
        for name, schedule in schedules.items():
            for group in self.optimizers[name].param_groups:
                group["lr"] = schedule.learning_rate_at(self.step, config.max_steps)
        updates = [self.generator_step.open(self.game, images.generator, self.step, rng)]
        opponent = self.generator_step.opponent(self.game, rng)
        for index, batch in enumerate(images.discriminator):
            update = self.step * config.discriminator_steps + index
            updates.append(self._update_discriminator(update, opponent, batch, rng))
        updates.append(self.generator_step.close(self.game, images.generator, rng))
        if self.average is not None and self.generator_step.learns(self.step):
            if self.step < config.ema_start:
                self.average.n_averaged.zero_()  # the next update then copies instead of averaging
            self.average.update_parameters(self.generator)
        self.terms.add(self.step, {name: value for terms in updates for name, value in terms.items()})

    def _update_discriminator(self, update: int, opponent: Task, batch: Batch, rng: torch.Generator) -> Terms:
        due = [penalty for penalty in self.penalties if penalty.due(update)]

        def terms_of(images: torch.Tensor, labels: torch.Tensor | None) -> Terms:
            draw = opponent.draw(images, labels, rng)
            return self.discriminator_terms(
                self.generator, self.prepared_discriminator, opponent, self.loss, due, draw
            )

        parts = self._micro_batches(batch, self.micro_batch_size, rng)
        with iterated_once(self.discriminator):
            return optimize(
                self.accelerator, self.prepared_discriminator, self.optimizers["discriminator"], terms_of, parts
            )

    def _micro_batches(self, batch: Batch, size: int, rng: torch.Generator) -> list[Batch]:
        pixels, labels = batch
        images = to_unit_range(pixels, self.config.horizontal_flip, rng).split(size)
        parts = [None] * len(images) if labels is None else labels.to(self.device).split(size)
        return list(zip(images, parts, strict=True))

    def _after_step(self) -> None:
        config = self.config
        finished = self.step == config.max_steps
        save = finished or self.step % config.checkpoint_every == 0
        log = finished or self.step % config.log_every == 0
        sample, watch, look = self._is_sampled, self._is_watched, self.stop.is_due(self.step)
        # Reading a loss waits for an accelerator, so there it is done only now and then; on the CPU it costs nothing.
        if not (save or sample or log or watch or look or self.device.type == "cpu"):
            return
        stop = self.stop.agreed(self.step) if look else 0
        self.terms.read()
        if self.accelerator.is_main_process and self._home.is_lost():
            self._leave_home()
        # The log goes first: a resumed run drops lines past its checkpoint, but cannot make up lost ones.
        if log:
            self._or_warn(self._log)
        saved = self._save() if save or stop else False
        if (watch or sample) and not stop:  # a resumed run makes up for them
            self._on_the_main_process(lambda: self._look_at_samples(watch, sample))
            stop = self.stop.agreed(self.step)
            saved = saved or (self._save() if stop else False)
        if stop:
            raise TrainingInterrupted(self._stopped(saved), 128 + stop)

    def _look_at_samples(self, watch: bool, sample: bool) -> None:
        """Evaluates and draws, until a signal comes."""
        if watch:
            self.signals.until_stopped(partial(self._or_warn, self._watch))
        if sample:
            self.signals.until_stopped(partial(self._or_warn, self._save_samples))

    def _or_warn(self, write: Callable[[], None]) -> None:
        """Writes what the run can do without; a full disk or a lack of memory is only reported."""
        try:
            write()
        except (OSError, SafetensorError) as error:
            self.progress.say(f"WARNING: could not write at step {self.step}: {error}")
        except (MemoryError, RuntimeError) as error:
            if not is_lack_of_memory(error):
                raise
            self.progress.say(f"WARNING: not enough memory at step {self.step} for what is drawn or evaluated there")

    @property
    def _is_watched(self) -> bool:
        """Whether the generator is evaluated after this step."""
        every = self.config.evaluate_every
        return every is not None and (self.step == self.config.max_steps or self.step % every == 0)

    @property
    def _is_sampled(self) -> bool:
        """Whether a picture is drawn after this step."""
        every = self.config.sample_every
        return every is not None and (self.step == self.config.max_steps or self.step % every == 0)

    def _make_up_for_what_was_missed(self) -> None:
        """Evaluates and draws after the step that a run goes on from, where it was killed before it did."""
        if self._resume_from is None or self._resume_from.parent != self._checkpoint_folder:
            return
        known = names_at(self.folder / "metrics.jsonl", self.step)
        watch = self._is_watched and known.isdisjoint(self.evaluator.metrics())
        self._look_at_samples(watch, self._is_sampled and not self._picture.exists())

    def _tidy_the_log(self) -> None:
        try:
            unreadable = drop_lines_after(self.folder / "metrics.jsonl", self.step)
        except OSError as error:
            unreadable = 0
            self.accelerator.print(f"WARNING: metrics.jsonl keeps lines after step {self.step}: {error.strerror}")
        if unreadable:
            self.accelerator.print(f"WARNING: {unreadable} line(s) of metrics.jsonl were damaged and are dropped")

    def _leave_home(self) -> None:
        """Ends a run whose output folder is not where it was; nothing is written to where it was."""
        was, place = self.folder, self._home.now()
        if place is None:
            raise TrainingInterrupted(f"stopped at step {self.step}: output_dir {was} was removed during the run", 1)
        self.folder = place
        where = f"a checkpoint is in {place}" if self._save() else self._last_checkpoint()
        raise TrainingInterrupted(
            f"stopped at step {self.step}: output_dir {was} was renamed during the run; {where}: rename it back, or "
            f"pass --output_dir {place}",
            1,
        )

    def _watch(self) -> None:
        """Evaluates the generator, logs the numbers and keeps the best one."""
        with self._settled_generator() as network:
            self.result = self._evaluate(network)
            numbers = {name: entry["value"] for name, entry in self.result["metrics"].items()}
            shown = self._in_one_line(self.result)
            if self.best is not None:
                protocol = {**self.result["protocol"], "selection": "best"}
                if self.best.keep({**self.result, "protocol": protocol}, partial(self._export_best, network)):
                    shown += "  (the best so far, in best/)"
        self.accelerator.log(numbers, step=self.step)  # last: a resumed run evaluates again what is not in the log
        self.progress.say(f"step {self.step}: {shown}")

    @torch.no_grad()
    def _evaluate(self, network: nn.Module, flow: FunctionalGradientFlow | None = None) -> dict[str, Any]:
        """The content of an eval.json of a settled generator.

        Args:
            flow: functional-gradient steps that follow the generator; None takes none.
        """

        def draw(number: int) -> torch.Tensor:
            rng = random_generator(self.device, self.config.seed, "evaluation", number)
            return self.task.sample(network, CHUNK, self.images.shape, rng, flow=flow, first=number * CHUNK)

        facts = {
            "weights": "raw" if self.average is None else "ema",
            "truncation": None,
            "flow": flow is not None,
            "dtype": "float32",
            "config_hash": settings_hash(self.identity),
            "training_seed": self.config.seed,
            "versions": self._facts()["versions"],
            "reference": self.settings.get("data", "the training images"),
            "selection": "final",
            "step": self.step,
        }
        count, classes = self.evaluator.count, self.evaluator.classes
        samples = GeneratorSamples(draw, count, self.images.shape, classes, facts, class_names=self._class_names)
        with self.progress.pause(f"step {self.step}: evaluating {count:,} samples"):
            result = self.evaluator.evaluate(samples)
        here = {"device": device_name(self.device), "date": datetime.now(UTC).isoformat(timespec="seconds")}
        return {**result, "facts": here}

    @property
    def _class_names(self) -> tuple[str, ...] | None:
        return class_names(getattr(self.generator, "config", {}))

    def _in_one_line(self, result: dict[str, Any]) -> str:
        numbers = result["metrics"].items()
        shown = "  ".join(
            f"{label(name, self.evaluator.extractor.name)} {entry['value']:.4g}" for name, entry in numbers
        )
        return f"{self.evaluator.count} samples: {shown}"

    def _export_best(self, network: nn.Module, folder: Path) -> None:
        self.task.export(network, folder)
        save_network(self.discriminator, folder / "discriminator")
        self.generator_step.export(folder)
        facts = {"identity": self.identity, **self._facts(), "step": self.step, "weights": weights_of(folder)}
        write_json(folder / DESCRIPTION_FILE, {**facts, "selection": "best"})

    def _stopped(self, saved: bool) -> str:
        where = f"stopped at step {self.step} of {self.config.max_steps}"
        if not saved:
            return f"{where}; no checkpoint could be written, {self._last_checkpoint()}"
        again = "the same command" if self.config.resume == "auto" else "the same command with --resume auto"
        return f"{where}; {again} goes on from there"

    def _log(self) -> None:
        means = self.terms.means()
        self.progress.update(self.step, means)
        rates = {f"{name}_learning_rate": o.param_groups[0]["lr"] for name, o in self.optimizers.items()}
        self.accelerator.log({**means, **rates}, step=self.step)

    # ---- what it writes ---------------------------------------------------------------------------------------

    @property
    def final_generator(self) -> nn.Module:
        """The generator that is exported: the average if there is one."""
        return self.generator if self.average is None else self.average.module

    @torch.no_grad()
    def draw_samples(
        self, count: int, purpose: str = "samples", flow: FunctionalGradientFlow | None = None
    ) -> torch.Tensor:
        """Images (count, channels, height, width) in [-1, 1] of the final generator, on the CPU.

        The same randomness at every call, so that pictures can be compared over the run.

        Args:
            flow: functional-gradient steps that follow the generator; None takes none.
        """
        rng = random_generator(self.device, self.config.seed, purpose)
        with self._settled_generator() as network:
            return self.task.sample(network, count, self.images.shape, rng, flow=flow).float().cpu()

    def _settled_generator(self) -> AbstractContextManager[nn.Module]:
        rng = random_generator(self.device, self.config.seed, "standing")

        def draw(network: nn.Module) -> None:
            self.task.standing_batch(network, self.generator_micro_batch_size, self.images.shape, rng)

        return settled(self.final_generator, draw, self.config.standing_batches)

    def _sample_grid(self, flow: FunctionalGradientFlow | None = None) -> Image.Image:
        count = self.config.sample_count
        columns = grid_columns(count, getattr(self.task, "num_classes", None))
        return image_grid(self.draw_samples(count, flow=flow), columns=columns)

    def _save_samples(self) -> None:
        if self.accelerator.is_main_process:
            save_image(self._sample_grid(), self._picture)

    @property
    def _picture(self) -> Path:
        return self.folder / "samples" / f"step-{self.step:06d}.png"

    @property
    def _checkpoint_folder(self) -> Path:
        return self.folder / "checkpoints"

    def _last_checkpoint(self) -> str:
        known = checkpoints(self._checkpoint_folder)
        return f"the last good checkpoint is {known[-1]}" if known else "no checkpoint was written yet"

    def _save(self) -> bool:
        """Writes a checkpoint; returns whether the disk took it (always true on the other processes)."""
        if not self.accelerator.is_main_process:
            return True
        state = {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "generator_step": self.generator_step.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }
        description = {"identity": self.identity, **self._facts(), "device_seconds": self.device_seconds}
        try:
            save_checkpoint(self._checkpoint_folder, self.step, state, description, self.config.keep_checkpoints)
        except OSError as error:
            reason = error.strerror or error
            self.progress.say(f"WARNING: no checkpoint at step {self.step}: {reason}; {self._last_checkpoint()}")
            return False
        return True

    def _load(self, source: Path) -> None:
        description, state = load_description(source), load_state(source)
        self.step, self._device_seconds_before = description["step"], description.get("device_seconds")
        self._finished = json.loads((self.folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        try:
            self.generator.load_state_dict(state["generator"])
            self.discriminator.load_state_dict(state["discriminator"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.generator_step.load_state_dict(state["generator_step"])
            for name, optimizer in self.optimizers.items():
                load_optimizer(optimizer, state["optimizers"][name])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if is_lack_of_memory(error):
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise InputError(
                f"{source} does not hold the state of this run ({reason}): remove it, and the run goes on from an "
                "earlier one"
            ) from error
        other = other_circumstances(description, self._facts())
        if other:
            self.accelerator.print(
                f"NOTE: {source} was not written as this process would ({'; '.join(other)}): the run goes on, but its "
                "weights will not be bit for bit those of an undisturbed one"
            )

    def _export_or_say_why_not(self) -> None:
        try:
            self._export()
        except (OSError, SafetensorError) as error:
            reason = getattr(system_error(error), "strerror", None) or error
            raise InputError(
                f"the model could not be written into {self.folder}: {reason}; {self._last_checkpoint()}. "
                "Make room and give the same command again"
            ) from error

    def _export(self) -> None:
        if not self.accelerator.is_main_process:
            return
        self.progress.say(f"exporting the model of step {self.step}")
        with updated(self.folder) as update:
            place, flow = update.place, self.generator_step.flow()
            with self._settled_generator() as network:
                pipeline = self.task.export(network, place)
            save_network(self.discriminator.eval(), place / "discriminator")
            self._or_warn(lambda: save_image(self._sample_grid(), place / "samples.png"))
            self.generator_step.export(place)
            if flow is not None:
                self._or_warn(lambda: save_image(self._sample_grid(flow), place / "samples_moved.png"))
            weights = weights_of(place)
            results = self._results(update, weights, flow)
            facts = {"identity": self.identity, **self._facts(), "step": self.step, "weights": weights}
            facts["device_seconds"] = self.device_seconds
            write_json(place / DESCRIPTION_FILE, facts)
            details = {"pipeline": pipeline, "class_names": self._class_names, **self.card}
            write_card(place, facts, results, self.loss, self.penalties, details)
            update.removed += superseded(self.folder, place)
        self.accelerator.print(f"done: samples in {self.folder / 'samples.png'}, model and card in {self.folder}")

    def _results(
        self, update: Update, weights: dict[str, str], flow: FunctionalGradientFlow | None
    ) -> list[dict[str, Any]]:
        """Results of the finished generator, each written where it belongs: alone, and moved by the flow."""
        results = [self._result(update, weights, RESULT_FILES[0], None)]
        if flow is not None:
            results.append(self._result(update, weights, RESULT_FILES[1], flow))
        return [result for result in results if result is not None]

    def _result(
        self, update: Update, weights: dict[str, str], name: str, flow: FunctionalGradientFlow | None
    ) -> dict[str, Any] | None:
        place, digest = self.folder / name, weights_hash(weights, flow is not None)
        known = stored_result(place)
        if known is not None and self._is_of_this_model(known, digest, flow):
            self.accelerator.print(f"{place} is of this model already and stays; remove it to evaluate anew")
            return known
        stale = [place, *report_files(place.parent)]
        update.removed += [path.relative_to(self.folder).as_posix() for path in stale]
        if self.evaluator is None:
            return None
        watched = self.result is not None and self.result["protocol"]["step"] == self.step
        if flow is None and watched:
            result = self.result
        else:
            with self._settled_generator() as network:
                result = self._evaluate(network, flow)
            self.accelerator.print(self._in_one_line(result) + ("" if flow is None else ", moved by the flow"))
        result = {**result, "facts": {**result["facts"], "weights": digest}}
        (update.place / name).parent.mkdir(exist_ok=True)
        write_json(update.place / name, result)
        return result

    def _is_of_this_model(self, result: dict[str, Any], digest: str, flow: FunctionalGradientFlow | None) -> bool:
        if result.get("facts", {}).get("weights", digest) != digest:
            return False
        own = {"step": self.step, "config_hash": settings_hash(self.identity), "training_seed": self.config.seed}
        return {**own, "flow": flow is not None}.items() <= result["protocol"].items()

    def _publish(self) -> None:
        config = self.config
        if not (config.push_to_hub and self.accelerator.is_main_process):
            return
        self.progress.say(f"publishing {self.folder} as {config.repo_id}")
        try:
            published = publish(self.folder, config.repo_id, private=config.hub_private)
        except InputError as error:
            again = push_command(self.folder, config.repo_id, private=config.hub_private)
            if again in str(error):
                raise
            raise InputError(
                f"the model is in {self.folder}, but was not published: {error}; then: {again}"
            ) from error
        self.accelerator.print(str(published))

    # ---- what it says -----------------------------------------------------------------------------------------

    def _announce(self) -> None:
        config, accelerator = self.config, self.accelerator
        sizes = [sum(p.numel() for p in network.parameters()) for network in (self.generator, self.discriminator)]
        begin = f"from {self._resume_from or config.init_from or 'scratch'}"
        penalties = ", ".join(map(str, self.penalties)) or "no penalty"
        accelerator.print(
            f"training {begin} to step {config.max_steps} on {device_name(self.device)}, "
            f"{accelerator.num_processes} process(es) of {torch.get_num_threads()} thread(s)\n"
            f"  generator {sizes[0]:,} parameters, discriminator {sizes[1]:,}; "
            f"{len(self.images):,} images of {self.images.shape[2]}x{self.images.shape[1]}\n"
            f"  batch {config.batch_size} = {self.micro_batch_size} images x {config.gradient_accumulation_steps} "
            f"micro-batch(es) x {accelerator.num_processes} process(es)\n"
            f"  {self.loss}, {penalties}, generator: {in_words(self.generator_step)}"
        )
        for note in self._notes:
            accelerator.print(f"  {note}")
        cost = self.generator_step.describe(config)
        if cost is not None:
            accelerator.print(f"  {cost}")
        used, cores = accelerator.num_processes * torch.get_num_threads(), usable_cores()
        if self.device.type == "cpu" and used < cores:
            accelerator.print(
                f"  {used} of {cores} cores used; for large networks accelerate launch --num_cpu_threads_per_process "
                f"{cores} is faster"
            )

    def _announce_long_run(self) -> None:
        with untouched(self.generator, self.discriminator):
            per_step = seconds_per_step(
                self.generator,
                self.discriminator,
                self.task,
                self.loss,
                self.penalties,
                self.images.shape,
                self.config,
                self.generator_step.load(self.config),
                self.accelerator.num_processes,
                self.device,
            )
        total = per_step * self.config.max_steps
        if total > _LONG_RUN_SECONDS:
            self.accelerator.print(
                f"NOTE: on {device_name(self.device)} this run will take about {duration(total)}, estimated from a "
                f"probe of {duration(per_step)} per step. For a first picture in minutes: --preset quickstart"
            )
