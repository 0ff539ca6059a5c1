"""Steps of named networks with named techniques: those of ``training.step``, as a training takes them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils._pytree import tree_leaves

import licfg_hf

from ..data.loader import Batch, StepImages
from ..errors import InputError
from ..ranges import require_memory
from ..training import AdversarialStep, DDGANTask, GANTask, LazyPenalty, OptimizerConfig, TrainingConfig
from ..training.checks import require_launchable
from ..training.optimizers import make_optimizer
from ..training.prepare import make_context, moving_average
from ..training.step import train_step, update_discriminator
from .catalogue import BASELINE, Model, parts
from .cost import resident_bytes

SEED = 0


def open_device(name: str | None, dtype: str = "float32") -> Accelerator:
    """Accelerate on a device: ``cpu``, ``cuda`` or ``mps``; None is cuda where there is one.

    Raises:
        InputError: there is no such device here.
    """
    fast = torch.accelerator.current_accelerator(check_available=True)
    there = ["cpu"] if fast is None else ["cpu", fast.type]
    name = name or ("cuda" if "cuda" in there else "cpu")
    if name not in there:
        raise InputError(f"there is no device {name!r} here; there is: {', '.join(there)}")
    accelerator = Accelerator(cpu=name == "cpu", mixed_precision="bf16" if dtype == "bf16" else "no")
    if accelerator.device.type != name:
        raise InputError(f"Accelerate takes {accelerator.device.type!r} here: pass --device {accelerator.device}")
    if name == "cuda":
        torch.set_float32_matmul_precision("high")  # as in a training
    return accelerator


def build_networks(model: Model, technique: str) -> tuple[nn.Module, nn.Module, DDGANTask | GANTask]:
    """Generator, discriminator with the technique's normalizers, and what they play; always from the same seed."""
    torch.manual_seed(SEED)
    classes = [getattr(licfg_hf, f"{model.family}{player}") for player in ("Generator", "Discriminator")]
    shape: dict[str, Any] = {"sample_size": model.size, "num_classes": model.classes}
    if model.family == "DDGAN":
        generator = classes[0](sample_size=model.size, in_channels=model.channels, **model.generator)
        task, shape = DDGANTask(licfg_hf.DDGANScheduler(), generator.config.latent_dim), {}
    else:
        generator = classes[0](**shape, out_channels=model.channels, **model.generator)
        task = GANTask(generator.latent_dim, model.classes)
    discriminator = classes[1](**shape, in_channels=model.channels, **model.discriminator)
    for kind, name, arguments in parts(technique):
        if kind == "normalizer":
            discriminator.add_normalizer(name, **arguments)
    return generator, discriminator, task


def build_penalties(technique: str) -> list[LazyPenalty]:
    """The technique's terms of the discriminator's loss."""
    terms = [part for part in parts(technique) if part[0] != "normalizer"]
    return [LazyPenalty(getattr(licfg_hf, name)(**arguments), name=kind) for kind, name, arguments in terms]


def training_config(model: Model, batch_size: int, **more: Any) -> TrainingConfig:
    """The settings of a training of the model."""
    adams = [OptimizerConfig("adam", rate, {"betas": list(model.betas)}) for rate in model.learning_rates]
    return TrainingConfig(
        batch_size=batch_size,
        generator_batch_size=batch_size * model.generator_batches,
        discriminator_steps=model.discriminator_steps,
        generator_optimizer=adams[0],
        discriminator_optimizer=adams[1],
        ema_decay=model.ema_decay,
        **more,
    )


class Arena:
    """Networks, a batch and the accelerator: what the steps of all techniques work with.

    All techniques share one generator, and those with the same normalizer one discriminator, so that many techniques
    fit into memory at once and can be measured in turn.

    Raises:
        InputError: the networks cannot take such a batch.
    """

    def __init__(self, model: Model, batch_size: int, accelerator: Accelerator):
        # An image, and what the networks keep of it until the backward pass: a hundred times as much or more.
        require_memory(400 * batch_size * model.channels * model.size**2, f"a batch of {batch_size:,} images")
        self.model, self.accelerator, self.device = model, accelerator, accelerator.device
        self.config = training_config(model, batch_size)
        sizes = (batch_size, self.config.effective_generator_batch_size)
        self.generator, discriminator, self.task = build_networks(model, BASELINE)
        require_launchable(accelerator, discriminator, (), sizes)
        self.parameters = [sum(map(torch.numel, one.parameters())) for one in (self.generator, discriminator)]
        self.average = cast(AveragedModel, moving_average(self.config, self.generator, self.device))
        self.generator_optimizer = self._optimizer(self.generator, self.config.generator_optimizer)
        self._discriminators: dict[str, tuple[nn.Module, torch.optim.Optimizer]] = {}
        self.rng = torch.Generator(self.device).manual_seed(SEED)
        batches = [self._batch(size) for size in sizes]
        self.images = StepImages([batches[0]] * model.discriminator_steps, batches[1])

    def _optimizer(self, network: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
        # As in a training; PyTorch's overloads do not know a module's memory format.
        network.train().to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return make_optimizer(config, network, self.device)

    def _batch(self, size: int) -> Batch:
        model, on = self.model, {"generator": self.rng, "device": self.device}
        pixels = torch.randint(256, (size, model.channels, model.size, model.size), dtype=torch.uint8, **on)
        return pixels, None if model.classes is None else torch.randint(model.classes, (size,), **on)

    def discriminator(self, technique: str) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The discriminator with a technique's normalizers, and its optimizer."""
        key = repr([part for part in parts(technique) if part[0] == "normalizer"])
        if key not in self._discriminators:
            network = build_networks(self.model, technique)[1]
            self._discriminators[key] = (network, self._optimizer(network, self.config.discriminator_optimizer))
        return self._discriminators[key]


class Case:
    """The steps of one technique.

    Args:
        arena: what it works with.
        compiled: both players' terms through ``torch.compile``, as ``torch_compile`` does in a training.

    Attributes:
        steps: name of ``STEPS`` -> one update of the discriminator, one of the generator, or a whole iteration.

    Raises:
        ValueError: the technique cannot be applied to these networks.
    """

    def __init__(self, arena: Arena, technique: str, compiled: bool = False):
        self.arena, self.compiled, learn = arena, compiled, AdversarialStep()
        discriminator, optimizer = arena.discriminator(technique)
        self.context = context = make_context(
            arena.accelerator,
            replace(arena.config, torch_compile=compiled),
            arena.task,
            licfg_hf.get_loss(arena.model.loss),
            build_penalties(technique),
            arena.generator,
            discriminator,
            {"generator": arena.generator_optimizer, "discriminator": optimizer},
            say=_refuse,
        )
        images, rng, average = arena.images, arena.rng, arena.average

        def iteration() -> None:
            train_step(context, 0, images, learn, rng)
            average.update_parameters(arena.generator)

        self.steps: dict[str, Callable[[], Any]] = {
            "discriminator": lambda: update_discriminator(context, 0, arena.task, images.discriminator[0], rng),
            "generator": lambda: learn.after_updates(context, images.generator, rng),
            "iteration": iteration,
        }

    def forget_gradients(self) -> None:
        """Drops gradients, as before the first step, so that they count among the memory that a step allocates."""
        self.context.generator_optimizer.zero_grad()
        self.context.discriminator_optimizer.zero_grad()

    def resident_bytes(self) -> int:
        """The bytes that a training holds between steps: networks, optimizers' states and the averaged generator."""
        context = self.context
        held = (context.generator, context.discriminator, context.generator_optimizer, context.discriminator_optimizer)
        states = tree_leaves([part.state_dict() for part in (*held, self.arena.average)])
        return resident_bytes(value for value in states if isinstance(value, torch.Tensor))


def _refuse(line: str) -> None:
    raise RuntimeError(line)
