"""The training loop on Accelerate: two networks, one loss each, checkpoints, callbacks, and a finished pipeline."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from ..data import ImageSet
from ..data.loader import StepImages, StepLoader
from ..data.sources import as_image_set
from ..diagnostics.health import HealthMonitor
from ..errors import TrainingDiverged, is_lack_of_memory
from ..files import user_path
from ..models.class_names import class_names, name_classes
from ..objective.augmentation import Augmentation, AugmentedCritic
from ..objective.losses import AdversarialLoss
from ..objective.term import LazyPenalty, Term
from ..seeds import seed_for, seed_globally
from .announce import announce, announce_long_run
from .averaging import MovingAverage
from .between_steps import BetweenSteps
from .callbacks import Callback, CallbackStates, HealthWatch, ProgressLine, SamplePictures, TrackerLog
from .checks import (
    make_accelerator,
    memory_advice,
    require_launchable,
    require_measurable_strength,
    require_sizes,
    warn_unless_saveable,
)
from .config import TrainingConfig
from .context import GeneratorStep, Terms, terms_named_apart
from .dry_check import dry_check, require_trainable
from .generator_steps import AdversarialStep
from .identity import facts_of, identity_of
from .interrupts import StopSignals
from .monitoring import Evaluation, protocol_for
from .optimizers import OptimizerFactory, make_optimizer, set_learning_rate, take_over
from .prepare import checkpoint_activations, make_context, set_arithmetic
from .progress import Progress
from .run import Run, on_the_main_process
from .sampler import Sampler, random_generator
from .step import train_step
from .tasks import TrainableTask
from .tracking import TermLog, tidy_log
from .warm_start import start_from


class Trainer:
    """Trains a generator against a discriminator on Accelerate and leaves a folder that can be loaded and shared.

    Everything random in a step follows from (seed, step, process), so a run that was killed and resumed ends, on the
    CPU, in bit-identical weights, given the same max_steps, number of threads and versions.

    Args:
        config: the settings of the loop.
        generator: any module that the task can call.
        discriminator: any module that the task can call; it returns logits in one of the forms that ``heads_of`` of
            ``objective.logits`` reads: one per sample, a map, tokens, several heads, with features beside or not.
        images: what ``open_images`` returns, a uint8 tensor (n, channels, height, width) or a ``datasets.Dataset``.
        task: how real and generated points come from images: ``GANTask`` or ``DDGANTask``.
        loss: the adversarial loss.
        penalties: penalties and other terms of the loss, each due at every update, or wrapped in ``LazyPenalty``.
        generator_step: how the generator learns; None means by its part of the loss. ``FunctionalGradientStep`` and
            ``StagedFunctionalGradient`` follow the functional gradient.
        callbacks: what else watches the training or writes for it, see ``callbacks.Callback``.
        optimizers: (role, network) -> optimizer, for optimizers of your own; ``role`` is "generator" or
            "discriminator". None takes those that ``config`` names. The schedule of ``config`` scales their rates.
        augmentation: what all images pass before the discriminator sees them, such as ``DifferentiableAugmentation``.
        settings: further settings for the model card and training.json, such as those of a recipe.
        reference: images that evaluations by ``config.protocol`` compare with, in the forms of ``images``; None takes
            all training images.

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
        penalties: Sequence[LazyPenalty | Term | Callable[..., torch.Tensor | None]] = (),
        generator_step: GeneratorStep | None = None,
        callbacks: Sequence[Callback | Any] = (),
        optimizers: OptimizerFactory | None = None,
        augmentation: Augmentation | None = None,
        settings: dict[str, Any] | None = None,
        reference: ImageSet | torch.Tensor | Any | None = None,
    ):
        require_trainable(generator, "generator")
        require_trainable(discriminator, "discriminator")
        self.config, self.task, self.loss, self.settings = config, task, loss, settings or {}
        self.generator, self.discriminator = generator.train(), discriminator.train()
        self.images, self.terms = as_image_set(images), terms_named_apart(list(penalties))
        self.reference = self.images if reference is None else as_image_set(reference)
        self.protocol = protocol_for(config, self.settings.get("data"), self.images.shape[1])
        self.generator_step, self.augmentation = generator_step or AdversarialStep(), augmentation
        self.step, self.callbacks = 0, list[Callback | Any](callbacks)
        self.accelerator = make_accelerator(config, user_path(config.output_dir))
        self.device, processes = self.accelerator.device, self.accelerator.num_processes
        self.micro_batch_size = config.micro_batch_size(config.batch_size, processes)
        self.generator_micro_batch_size = config.micro_batch_size(config.effective_generator_batch_size, processes)
        sizes = (self.micro_batch_size, self.generator_micro_batch_size)
        require_launchable(self.accelerator, discriminator, self.terms, sizes)
        require_measurable_strength(loss, self.terms)
        require_sizes(config, self.images.shape)
        for network in (generator, discriminator):
            warn_unless_saveable(network, self.accelerator)
        set_arithmetic(config, self.device)
        if config.gradient_checkpointing:
            checkpoint_activations(generator, discriminator)
        on_the_main_process(self.accelerator, lambda: self.notify("setup"))
        batches = (config.batch_size, config.effective_generator_batch_size, config.discriminator_steps, config.seed)
        share = (self.accelerator.process_index, processes)
        self.loader = StepLoader(self.images, *batches, *share, self.device, self.generator_step.interval)
        self.notes = dry_check(self)
        self.optimizers = {name: self._optimizer(name, optimizers) for name in ("generator", "discriminator")}
        self.run = Run(config, identity_of(self, optimizers), facts_of(self), self.accelerator)
        name_classes(generator, self.images.class_names or ())
        if config.init_from is not None and self.run.resume_from is None:
            start_from(config.init_from, generator, discriminator, self.accelerator.print)
        self.evaluation = Evaluation(self) if config.evaluates else None
        self.generator_step.setup(discriminator, self.accelerator, config)
        # A copy made now, before ``prepare`` wraps the forward pass in autocast.
        self.average = None if config.ema_decay is None else MovingAverage(generator, config.ema_decay)
        self.sampler = Sampler(self)
        watching = [] if self.evaluation is None else [self.evaluation]
        usual = [ProgressLine(), TrackerLog(), HealthWatch(HealthMonitor(loss)), *watching, SamplePictures()]
        self.callbacks = [*usual, *self.callbacks]

    # ---- what it is made of -----------------------------------------------------------------------------------

    def augmented(self, discriminator: nn.Module) -> nn.Module:
        return discriminator if self.augmentation is None else AugmentedCritic(discriminator, self.augmentation)

    def _optimizer(self, name: str, factory: OptimizerFactory | None) -> torch.optim.Optimizer:
        config, network = getattr(self.config, f"{name}_optimizer"), getattr(self, name)
        if factory is None:
            return make_optimizer(config, network, self.device)
        return take_over(factory(name, network), config)

    @property
    def folder(self) -> Path:
        """The output folder, wherever it is by now."""
        return self.run.folder

    @property
    def final_generator(self) -> nn.Module:
        """The generator that is measured and exported, which ``exported`` tells."""
        return self.generator if self.average is None or self.exported == "raw" else self.average.module

    @property
    def exported(self) -> Literal["raw", "ema"]:
        """The trained weights, or their average where there is one and the protocol does not say otherwise."""
        return "raw" if self.average is None or self.protocol.options.get("weights") == "raw" else "ema"

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, where they have some."""
        return class_names(getattr(self.generator, "config", {}))

    def notify(self, event: str, *details: Any) -> None:
        """Calls every callback that has a method of that name, see ``callbacks.Callback``."""
        for callback in self.callbacks:
            getattr(callback, event, lambda *_: None)(self, *details)

    def callbacks_that(self, question: str) -> list[Callback | Any]:
        """The callbacks that say yes to a question: ``is_due`` or ``was_missed``."""
        return [callback for callback in self.callbacks if getattr(callback, question, lambda _: False)(self)]

    # ---- the loop ---------------------------------------------------------------------------------------------

    def train(self) -> Path:
        """Trains to ``max_steps`` and exports; returns the output folder, which then holds the finished pipeline.

        Raises:
            TrainingDiverged: a loss or weight became NaN or infinite.
            torch.OutOfMemoryError: memory ran out; a note of it says which settings need less.
            TrainingInterrupted: SIGTERM, SIGHUP or Ctrl-C, or the launcher has ended; a checkpoint was written. Or the
                output folder was renamed.
            FolderInUse: another process trains in the output folder.
        """
        with ExitStack() as stack:
            on_the_main_process(self.accelerator, lambda: self.run.hold(stack))
            self._train()
        return self.folder

    def _train(self) -> None:
        self.prepare()
        announce(self)
        if self.run.resume_from is None:
            announce_long_run(self)
        if self.accelerator.is_main_process:
            tidy_log(self.folder / "metrics.jsonl", self.step, self.accelerator.print)
        self.accelerator.init_trackers("licfg_hf")
        self.progress = Progress(self.step, self.config.max_steps, self.accelerator.is_main_process)
        term_log = TermLog(self.accelerator)
        try:
            with StopSignals() as self.signals:
                between = BetweenSteps(self, self.signals, term_log)
                self.notify("train_begin")
                between.begin()
                for images in self.loader.steps(self.step, self.config.max_steps):
                    term_log.add(self.step, self.take_step(images))
                    self.step += 1
                    self.notify("step_end")
                    between.after_step()
                between.end()
        except (TrainingDiverged, OverflowError) as error:
            raise TrainingDiverged(f"{error}; {self.run.last_checkpoint()}. Try a lower learning rate") from error
        except (MemoryError, RuntimeError) as error:
            if is_lack_of_memory(error):
                error.add_note(memory_advice(self))
            raise
        finally:
            self.progress.close()
        self.notify("train_end")
        # The main process exports, evaluates and publishes; a launcher ends it where another process ends before.
        self.accelerator.wait_for_everyone()
        for tracker in self.accelerator.trackers:  # end_training would also end the process group, and later runs
            tracker.finish()

    def prepare(self) -> None:
        """Networks to the device, the state of a checkpoint into all parts, and Accelerate around the networks."""
        networks = (self.generator, self.discriminator)
        averaged = [] if self.average is None else [self.average.module]  # with equal strides, else it is slow
        for network in (*networks, *averaged):  # channels last: convolutions are faster so; other tensors stay
            cast(Any, network).to(self.device, memory_format=torch.channels_last)
        self.run.parts = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.average,
            "generator_step": self.generator_step,
            "optimizers": self.optimizers,
            "terms": {term.name: term for term in self.terms},
            "callbacks": CallbackStates(self.callbacks),
        }
        if self.run.resume_from is not None:
            self.step = self.run.load(self.run.resume_from)
        played = (self.config, self.task, self.loss, self.terms, *networks)
        self.context = make_context(self.accelerator, *played, self.optimizers, self.augmented)

    def take_step(self, images: StepImages) -> Terms:
        """Step number ``step``, which it does not count; returns the newest value of each term."""
        config, rank = self.config, self.accelerator.process_index
        rng = random_generator(self.device, config.seed, "training", self.step, rank)
        # For what draws without a generator, such as dropout, and the points of penalties.
        seed_globally(seed_for(config.seed, "without a generator", self.step, rank))
        for name, optimizer in self.optimizers.items():
            schedule = getattr(config, f"{name}_optimizer")
            set_learning_rate(optimizer, schedule.learning_rate_at(self.step, config.max_steps))
        terms = train_step(self.context, self.step, images, self.generator_step, rng)
        if self.average is not None and self.generator_step.learns(self.step):
            if self.step < config.ema_start:
                self.average.restart()
            self.average.update(self.generator)
        return terms
