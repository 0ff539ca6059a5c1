"""The training loop on Accelerate: two networks, one loss each, checkpoints, samples, and a finished pipeline."""

import json
import platform
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..data.loader import StepImages, StepLoader
from ..data.sources import ImageSet, as_image_set
from ..errors import InputError, TrainingDiverged, TrainingInterrupted
from ..evaluation.metrics import precision_recall
from ..hub.card import write_card
from ..losses import AdversarialLoss
from ..pipelines.base import image_grid, save_image
from .checkpoint import (
    DESCRIPTION_FILE,
    checkpoints,
    load_description,
    load_state,
    remove_partial,
    save_checkpoint,
    save_network,
    write_json,
)
from .config import OptimizerConfig, TrainingConfig
from .estimate import seconds_per_step
from .interrupts import StopSignals
from .progress import Progress, duration
from .steps import LazyPenalty, Task, Terms, discriminator_terms, frozen, generator_terms, optimize
from .tracking import make_trackers
from .warm_start import warm_start

_OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}
_LONG_RUN_SECONDS = 24 * 3600
_PURPOSES = ("training", "samples", "evaluation")


class TrainableTask(Task, Protocol):
    """What the trainer asks of a task besides what a step needs."""

    def sample(
        self, generator: nn.Module, count: int, shape: tuple[int, int, int], rng: torch.Generator
    ) -> torch.Tensor: ...

    def export(self, generator: nn.Module, folder: Path) -> None: ...


def random_generator(device: torch.device, seed: int, purpose: str, step: int = 0, rank: int = 0) -> torch.Generator:
    """A random generator that depends on its arguments alone, so nothing random has to be saved to resume."""
    sequence = np.random.SeedSequence((seed, _PURPOSES.index(purpose), step, rank))
    return torch.Generator(device).manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))


def make_optimizer(config: OptimizerConfig, network: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that ``config`` names, over the parameters of ``network``.

    Raises:
        InputError: the arguments do not fit it.
    """
    arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in config.arguments.items()}
    try:
        return _OPTIMIZERS[config.name](network.parameters(), lr=config.learning_rate, **arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"optimizer {config.name} does not take {config.arguments}: {error}") from error


def to_unit_range(pixels: torch.Tensor, flip: bool, rng: torch.Generator) -> torch.Tensor:
    """uint8 images -> float32 in [-1, 1], on the device of ``rng``, each mirrored with probability 1/2 if ``flip``."""
    images = pixels.to(rng.device).float() / 127.5 - 1
    if not flip:
        return images
    mirrored = torch.rand(len(images), 1, 1, 1, generator=rng, device=rng.device) < 0.5
    return torch.where(mirrored, images.flip(3), images)


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
    ):
        self.config, self.task, self.loss = config, task, loss
        self.penalties = [p if isinstance(p, LazyPenalty) else LazyPenalty(p) for p in penalties]
        self.images = as_image_set(images)
        self.settings, self.card = settings or {}, card or {}
        self.folder = Path(config.output_dir).expanduser()
        self.checkpoint_folder = self.folder / "checkpoints"
        self.step = 0
        self.accelerator = Accelerator(mixed_precision=config.mixed_precision, project_dir=str(self.folder))
        self.device = self.accelerator.device
        self._require_supported()
        processes = self.accelerator.num_processes
        self.micro_batch_size = config.micro_batch_size(config.batch_size, processes)
        self.generator_micro_batch_size = config.micro_batch_size(config.effective_generator_batch_size, processes)
        self.loader = StepLoader(
            self.images, config.batch_size, config.effective_generator_batch_size, config.discriminator_steps,
            config.seed, self.accelerator.process_index, processes, self.device,
        )  # fmt: skip
        self.generator, self.discriminator = generator.train(), discriminator.train()
        self.identity = self._identity()
        self._resume_from = self._prepare_folder()
        if config.init_from is not None and self._resume_from is None:
            self._warm_start(config.init_from)
        # The average is copied before ``prepare`` wraps the forward pass in autocast: it samples in full precision.
        self.average = None
        if config.ema_decay is not None:
            average = get_ema_multi_avg_fn(config.ema_decay)
            self.average = AveragedModel(generator, multi_avg_fn=average).to(self.device).requires_grad_(False)

    def _warm_start(self, source: str) -> None:
        misfits = warm_start(source, self.generator, self.discriminator)
        self.accelerator.print(
            f"starting from {source}: " + (f"{len(misfits)} did not fit" if misfits else "all fits")
        )
        for line in misfits:
            self.accelerator.print(f"  {line}")

    def _require_supported(self) -> None:
        if self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            exact = [p.name for p in self.penalties if getattr(p.penalty, "method", "exact") == "exact"]
            if exact:
                raise InputError(
                    f"{self.accelerator.distributed_type.value} shards the discriminator's parameters, and an exact "
                    "gradient penalty cannot differentiate through them twice: launch with DDP (--multi_gpu) instead"
                )
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32: full float32 range, 10-bit mantissa in products

    # ---- the output folder ------------------------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        """What makes this run this run; a checkpoint of another identity is refused. Normalized through JSON."""

        def describe(network: nn.Module) -> dict[str, Any]:
            shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
            return {
                "class": type(network).__name__,
                "parameters": sum(map(np.prod, shapes.values())),
                **{
                    "config": {k: v for k, v in getattr(network, "config", {}).items() if not k.startswith("_")}
                    if isinstance(getattr(network, "config", None), dict)
                    else {}
                },
            }

        scheduler = getattr(self.task, "scheduler", None)
        content = {
            "training": self.config.identity(),
            "generator": describe(self.generator),
            "discriminator": describe(self.discriminator),
            "task": type(self.task).__name__,
            "scheduler": {} if scheduler is None else {k: v for k, v in scheduler.config.items() if k[0] != "_"},
            "loss": repr(self.loss),
            "penalties": [repr(penalty) for penalty in self.penalties],
            "images": {"fingerprint": self.images.fingerprint, "count": len(self.images), "shape": self.images.shape},
        }
        return json.loads(json.dumps(content, default=float))

    def _prepare_folder(self) -> Path | None:
        """Creates or checks the output folder and returns the checkpoint to resume from."""
        source: Path | None = None
        problem: str | None = None
        if self.accelerator.is_main_process:
            try:
                source = self._claim_folder()
            except InputError as error:
                problem = str(error)
        found = [source, problem]
        if self.accelerator.num_processes > 1:
            torch.distributed.broadcast_object_list(found)
        source, problem = found
        if problem is not None:
            raise InputError(problem)
        return source

    def _claim_folder(self) -> Path | None:
        resume, description = self.config.resume, self.folder / DESCRIPTION_FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise InputError(f"cannot write to output_dir {self.folder}: {error.strerror}") from error
        occupied = any(self.folder.iterdir())
        if resume == "never" and occupied:
            raise InputError(f"output_dir {self.folder} is not empty and --resume never wants a fresh one")
        source = None
        if resume not in ("auto", "never"):
            source = Path(resume).expanduser()
            self._require_same_identity(load_description(source)["identity"], source)
        if occupied and not description.is_file():
            raise InputError(
                f"output_dir {self.folder} holds files that are not of a training run: choose an empty or new folder"
            )
        if description.is_file():
            self._require_same_identity(json.loads(description.read_text(encoding="utf-8"))["identity"], self.folder)
        remove_partial(self.checkpoint_folder)
        known = checkpoints(self.checkpoint_folder)
        if source is None and known:
            source = known[-1]
        elif source is not None and known and int(known[-1].name[5:]) > load_description(source)["step"]:
            raise InputError(
                f"{self.folder} has newer checkpoints than {source.name}: choose another --output_dir, or remove them"
            )
        write_json(description, {"identity": self.identity, **self._environment()})
        return source

    def _require_same_identity(self, other: dict[str, Any], where: Path) -> None:
        changed = _differences(other, self.identity)
        if changed:
            raise InputError(
                f"{where} is of a run with other settings ({'; '.join(changed[:4])}): choose another --output_dir. "
                "A resumed run may change only its length and what it logs and saves"
            )

    def _environment(self) -> dict[str, Any]:
        packages = ("licfg_hf", "torch", "diffusers", "accelerate", "datasets", "numpy")
        return {
            "settings": {**asdict(self.config), **self.settings},
            "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
            "device": device_name(self.device),
            "processes": self.accelerator.num_processes,
            "threads": torch.get_num_threads(),
        }

    # ---- the loop ---------------------------------------------------------------------------------------------

    def train(self) -> Path:
        """Trains to ``max_steps`` and exports; returns the output folder, which then holds the finished pipeline.

        Raises:
            TrainingDiverged: a loss or weight became NaN or infinite.
            TrainingInterrupted: SIGTERM or Ctrl-C; a checkpoint was written.
        """
        config = self.config
        if self._resume_from is None:
            self._announce_long_run()
        self._wrap()
        if self._resume_from is not None:
            self._load(self._resume_from)
        self._start_tracking()
        self._announce()
        self.progress = Progress(self.step, config.max_steps, self.accelerator.is_main_process)
        self._pending: list[tuple[int, Terms]] = []
        try:
            with StopSignals() as self.signals:
                for images in self.loader.steps(self.step, config.max_steps):
                    self._train_step(images)
                    self.step += 1
                    self._after_step()
        finally:
            self.progress.close()
        self._export()
        self.accelerator.end_training()
        return self.folder

    def _wrap(self) -> None:
        config = self.config
        self.generator.to(self.device)
        self.discriminator.to(self.device)
        self.optimizers = {
            "generator": make_optimizer(config.generator_optimizer, self.generator),
            "discriminator": make_optimizer(config.discriminator_optimizer, self.discriminator),
        }
        self.prepared_generator, self.prepared_discriminator = self.accelerator.prepare(
            self.generator, self.discriminator
        )

    def _train_step(self, images: StepImages) -> None:
        config = self.config
        rng = random_generator(self.device, config.seed, "training", self.step, self.accelerator.process_index)
        torch.manual_seed(rng.initial_seed())  # for what draws without a generator, such as dropout
        for name, optimizer in self.optimizers.items():
            settings = getattr(config, f"{name}_optimizer")
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate_at(self.step, config.max_steps)
        terms: Terms = {}
        for index, (pixels, labels) in enumerate(images.discriminator):
            terms |= self._update_discriminator(self.step * config.discriminator_steps + index, pixels, labels, rng)
        terms |= self._update_generator(*images.generator, rng)
        if self.average is not None:
            if self.step < config.ema_start:
                self.average.n_averaged.zero_()  # the next update then copies instead of averaging
            self.average.update_parameters(self.generator)
        self._pending.append((self.step, terms))

    def _update_discriminator(
        self, update: int, pixels: torch.Tensor, labels: torch.Tensor | None, rng: torch.Generator
    ) -> Terms:
        due = [penalty for penalty in self.penalties if penalty.due(update)]
        parts = self._micro_batches(pixels, labels, self.micro_batch_size, rng)

        def terms_of(part: tuple) -> Terms:
            draw = self.task.draw(*part, rng)
            return discriminator_terms(
                self.generator, self.prepared_discriminator, self.task, self.loss, due, draw, rng
            )

        compute = [lambda part=part: terms_of(part) for part in parts]
        return optimize(self.accelerator, self.prepared_discriminator, self.optimizers["discriminator"], compute)

    def _update_generator(self, pixels: torch.Tensor, labels: torch.Tensor | None, rng: torch.Generator) -> Terms:
        parts = self._micro_batches(pixels, labels, self.generator_micro_batch_size, rng)

        def terms_of(part: tuple) -> Terms:
            draw = self.task.draw(*part, rng)
            return generator_terms(self.prepared_generator, self.discriminator, self.task, self.loss, draw)

        with frozen(self.discriminator):
            compute = [lambda part=part: terms_of(part) for part in parts]
            return optimize(self.accelerator, self.prepared_generator, self.optimizers["generator"], compute)

    def _micro_batches(
        self, pixels: torch.Tensor, labels: torch.Tensor | None, size: int, rng: torch.Generator
    ) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        images = to_unit_range(pixels, self.config.horizontal_flip, rng).split(size)
        parts = [None] * len(images) if labels is None else labels.split(size)
        return list(zip(images, parts, strict=True))

    def _after_step(self) -> None:
        config = self.config
        finished = self.step == config.max_steps
        save = finished or self.step % config.checkpoint_every == 0
        sample = config.sample_every is not None and (finished or self.step % config.sample_every == 0)
        # Reading a loss waits for an accelerator, so there it is done only now and then; on the CPU it costs nothing.
        if save or sample or self.device.type == "cpu" or self.step % config.log_every == 0:
            stop = self._check()
            if self.step % config.log_every == 0 or finished:
                self._log()
            if sample:
                self._save_samples()
            if save or stop is not None:
                self._save()
            if stop is not None:
                raise TrainingInterrupted(
                    f"stopped at step {self.step} of {config.max_steps}; the same command goes on from there",
                    128 + stop,
                )

    def _check(self) -> int | None:
        """Means of the new losses over the processes; returns the signal that any process received."""
        self._recent = getattr(self, "_recent", [])
        names = sorted({name for _, terms in self._pending for name in terms})
        missing = torch.zeros((), device=self.device)
        rows = [torch.stack([terms.get(name, missing).float() for name in names]) for _, terms in self._pending]
        signal_row = torch.full((1, len(names)), float(self.signals.received or 0), device=self.device)
        table = torch.cat([torch.stack(rows), signal_row]) / self.accelerator.num_processes
        table = self.accelerator.reduce(table, "sum")
        values = table.cpu()
        for (step, terms), row in zip(self._pending, values, strict=False):
            numbers = {name: value for name, value in zip(names, row.tolist(), strict=True) if name in terms}
            for name, value in numbers.items():
                if not np.isfinite(value):
                    self._fail(f"{name} is {value} at step {step}")
            self._recent.append(numbers)
        self._pending.clear()
        received = round(float(values[-1, 0]) * self.accelerator.num_processes)
        return None if received == 0 else (self.signals.received or 15)

    def _fail(self, what: str) -> None:
        known = checkpoints(self.checkpoint_folder)
        good = f"the last good checkpoint is {known[-1]}" if known else "no checkpoint was written yet"
        raise TrainingDiverged(f"{what}; {good}. A lower learning rate or another penalty weight may help")

    def _log(self) -> None:
        names = {name for numbers in self._recent for name in numbers}
        means = {
            name: float(np.mean([numbers[name] for numbers in self._recent if name in numbers]))
            for name in sorted(names)
        }
        self._recent.clear()
        for name, optimizer in self.optimizers.items():
            means[f"{name}_learning_rate"] = optimizer.param_groups[0]["lr"]
        self.accelerator.log(means, step=self.step)
        self.progress.update(self.step, {name: value for name, value in means.items() if "learning_rate" not in name})

    # ---- what it writes ---------------------------------------------------------------------------------------

    @property
    def final_generator(self) -> nn.Module:
        """The generator that is exported: the average if there is one."""
        return self.generator if self.average is None else self.average.module

    @torch.no_grad()
    def _draw_samples(self, count: int, purpose: str) -> torch.Tensor:
        """The same latents at every call, so that grids can be compared over the run."""
        network = self.final_generator
        training = network.training
        network.eval()
        rng = random_generator(self.device, self.config.seed, purpose)
        images = self.task.sample(network, count, self.images.shape, rng)
        network.train(training)
        return images.float().cpu()

    def _save_samples(self) -> None:
        if self.accelerator.is_main_process:
            grid = self._sample_grid()
            save_image(grid, self.folder / "samples" / f"step-{self.step:06d}.png")

    def _sample_grid(self):
        count = self.config.sample_count
        return image_grid(self._draw_samples(count, "samples"), columns=int(np.ceil(np.sqrt(count))))

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        state = {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }
        description = {"identity": self.identity, **self._environment()}
        try:
            save_checkpoint(self.checkpoint_folder, self.step, state, description, self.config.keep_checkpoints)
        except OSError as error:
            known = checkpoints(self.checkpoint_folder)
            kept = f"{known[-1]} is intact" if known else "there is none yet"
            self.progress.say(f"WARNING: checkpoint step-{self.step} could not be written ({error}); {kept}")
        except TrainingDiverged as error:
            self._fail(f"{error} after step {self.step - 1}")

    def _load(self, source: Path) -> None:
        state, self.step = load_state(source), load_description(source)["step"]
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        if self.step > self.config.max_steps:
            raise InputError(f"{source} is already at step {self.step}, past max_steps {self.config.max_steps}")

    def _export(self) -> None:
        if not self.accelerator.is_main_process:
            return
        self.task.export(self.final_generator.eval(), self.folder)
        save_network(self.discriminator.eval(), self.folder / "discriminator")
        save_image(self._sample_grid(), self.folder / "samples.png")
        results = self._evaluate()
        facts = {**self._environment(), "identity": self.identity, "results": results, "step": self.step}
        write_json(self.folder / DESCRIPTION_FILE, facts)
        write_card(self.folder, facts, self.images, self.loss, self.penalties, self.card)
        self.accelerator.print(f"done: samples in {self.folder / 'samples.png'}, model and card in {self.folder}")

    def _evaluate(self) -> dict[str, Any] | None:
        count = self.config.evaluate_samples
        if count is None:
            return None
        chosen = torch.from_numpy(np.random.default_rng(self.config.seed).permutation(len(self.images))[:count])
        real = self.images.fetch(chosen, seed=0).cpu().float() / 127.5 - 1
        fake = self._draw_samples(count, "evaluation")
        precision, recall = precision_recall(real.flatten(1), fake.flatten(1), k=3)
        return {
            "precision": precision,
            "recall": recall,
            "samples": count,
            "reals": len(real),
            "k": 3,
            "features": "pixels",
        }

    # ---- what it says -----------------------------------------------------------------------------------------

    def _start_tracking(self) -> None:
        self.accelerator.log_with = make_trackers(self.config.trackers, self.folder, self.step)
        self.accelerator.init_trackers("licfg_hf")

    def _announce(self) -> None:
        config, accelerator = self.config, self.accelerator
        parameters = [sum(p.numel() for p in network.parameters()) for network in (self.generator, self.discriminator)]
        begin = f"from {self._resume_from} (step {self.step})" if self._resume_from else "from scratch"
        accelerator.print(
            f"training {begin} to step {config.max_steps} on {device_name(self.device)}, "
            f"{accelerator.num_processes} process(es) of {torch.get_num_threads()} threads\n"
            f"  generator {parameters[0]:,} parameters, discriminator {parameters[1]:,}; {len(self.images):,} images "
            f"of {self.images.shape[2]}x{self.images.shape[1]}\n"
            f"  batch {config.batch_size} = {self.micro_batch_size} images x {config.gradient_accumulation_steps} "
            f"micro-batches x {accelerator.num_processes} processes; {config.discriminator_steps} discriminator "
            f"update(s) per step\n"
            f"  {self.loss}, " + (", ".join(map(repr, self.penalties)) or "no penalty"),
        )

    def _announce_long_run(self) -> None:
        per_step = seconds_per_step(
            deepcopy(self.generator), deepcopy(self.discriminator), self.task, self.loss, self.penalties,
            self.images.shape, self.config, self.accelerator.num_processes, self.device,
        )  # fmt: skip
        total = per_step * self.config.max_steps
        if total > _LONG_RUN_SECONDS:
            self.accelerator.print(
                f"NOTE: on {device_name(self.device)} this run will take about {duration(total)} (estimated from a probe "
                f"of {per_step:.3g} s per step). For a first picture in minutes: --preset quickstart"
            )


def device_name(device: torch.device) -> str:
    """What a person calls the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(set(old) | set(new))
        return [line for key in keys for line in _differences(old.get(key), new.get(key), f"{name}.{key}".strip("."))]
    return [] if old == new else [f"{name}: {old} there, {new} here"]
