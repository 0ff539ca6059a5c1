"""Steps of named networks with named techniques: those of ``training.step``, as a training takes them."""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import nn

from ..data.image_sets import TensorImages
from ..data.loader import StepImages
from ..errors import InputError
from ..ranges import require_memory
from ..recipes.recipe import Parts
from ..training import OptimizerConfig, TrainingConfig
from ..training.averaging import MovingAverage
from ..training.checks import require_launchable
from ..training.context import StepContext
from ..training.optimizers import make_optimizer
from ..training.prepare import make_context, set_arithmetic
from ..training.step import train_step, update_discriminator
from .catalogue import BASELINE, Model, training_of


def open_device(name: str | None, dtype: str = "float32") -> Accelerator:
    """Accelerate on a device: ``cpu``, ``cuda`` or ``mps``; None is cuda where there is one."""
    fast = torch.accelerator.current_accelerator(check_available=True)
    there = ["cpu"] if fast is None else ["cpu", fast.type]
    name = name or ("cuda" if "cuda" in there else "cpu")
    if name not in there:
        raise InputError(f"there is no device {name!r} here; there is: {', '.join(there)}")
    accelerator = Accelerator(cpu=name == "cpu", mixed_precision="bf16" if dtype == "bf16" else "no")
    if accelerator.device.type != name:
        raise InputError(f"Accelerate takes {accelerator.device.type!r} here: pass --device {accelerator.device}")
    set_arithmetic(TrainingConfig(), accelerator.device)
    return accelerator


class SharedParts:
    """What the steps of all techniques share: the accelerator, random images, one generator and its average.

    Techniques with the same normalizer share a discriminator, too: so many fit into memory and are measured in turn.
    """

    def __init__(self, model: Model, batch_size: int, accelerator: Accelerator):
        # An image, and what the networks keep of it until the backward pass: a hundred times as much or more.
        require_memory(400 * batch_size * prod(model.image), f"a batch of {batch_size:,} images")
        self.model, self.accelerator, self.device = model, accelerator, accelerator.device
        self.recipe, self.options = training_of(model, BASELINE, batch_size)
        sizes = (batch_size, self.options.generator_batch_size)
        self.rng = torch.Generator(self.device).manual_seed(self.options.seed)
        self.data = self._random_images(max(sizes))
        parts = self.recipe.parts(self.options, self.data)
        require_launchable(accelerator, parts.discriminator, (), sizes)
        self.generator, networks = parts.generator, (parts.generator, parts.discriminator)
        self.parameters = [sum(map(torch.numel, network.parameters())) for network in networks]
        self.generator_optimizer = self._optimizer(self.generator, parts.training.generator_optimizer)
        self.average = MovingAverage(self.generator, cast(float, parts.training.ema_decay))
        self._discriminators: dict[str, tuple[nn.Module, torch.optim.Optimizer]] = {}
        pixels, labels = self.data.images, self.data.labels
        batches = [(pixels[:size], None if labels is None else labels[:size]) for size in sizes]
        self.images = StepImages([batches[0]] * parts.training.discriminator_steps, batches[1])

    def _random_images(self, count: int) -> TensorImages:
        classes, on = self.model.classes, {"generator": self.rng, "device": self.device}
        pixels = torch.randint(256, (count, *self.model.image), dtype=torch.uint8, **on)
        labels = None if classes is None else torch.randint(classes, (count,), **on)
        names = None if classes is None else tuple(map(str, range(classes)))
        return TensorImages(pixels, labels, "random", names)

    def _optimizer(self, network: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
        # As in a training; PyTorch's overloads do not know a module's memory format.
        network.train().to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return make_optimizer(config, network, self.device)

    def parts(self, technique: str) -> tuple[Parts, torch.optim.Optimizer]:
        """The parts of a training with a technique, and the optimizer of its discriminator."""
        _, options = training_of(self.model, technique, self.options.batch_size)
        parts = self.recipe.parts(options, self.data)
        key = repr(parts.objective.normalizers())
        if key not in self._discriminators:
            optimizer = self._optimizer(parts.discriminator, parts.training.discriminator_optimizer)
            self._discriminators[key] = parts.discriminator, optimizer
        discriminator, optimizer = self._discriminators[key]
        return replace(parts, generator=self.generator, discriminator=discriminator), optimizer


def steps_of(shared: SharedParts, technique: str, compiled: bool) -> tuple[StepContext, dict[str, Callable[[], Any]]]:
    """The steps by the names of ``STEPS``: an update of the discriminator, one of the generator, a whole iteration.

    ``compiled`` puts both players' terms through ``torch.compile``, as ``torch_compile`` does in a training. Whatever
    the networks cannot do is raised.
    """
    parts, optimizer = shared.parts(technique)
    context = make_context(
        shared.accelerator,
        replace(parts.training, torch_compile=compiled),
        parts.task,
        parts.loss,
        parts.penalties,
        parts.generator,
        parts.discriminator,
        {"generator": shared.generator_optimizer, "discriminator": optimizer},
        say=_refuse,
    )
    images, rng, learn = shared.images, shared.rng, parts.generator_step

    def iteration() -> None:
        train_step(context, 0, images, learn, rng)
        shared.average.update(shared.generator)

    return context, {
        "discriminator": lambda: update_discriminator(context, 0, parts.task, images.discriminator[0], rng),
        "generator": lambda: learn.after_updates(context, images.generator, rng),
        "iteration": iteration,
    }


def _refuse(line: str) -> None:
    raise RuntimeError(line)
