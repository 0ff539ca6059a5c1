"""Training steps of named networks with named techniques, as the trainer takes them, on one batch that stays."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .. import models
from ..errors import InputError
from ..images import from_pixels
from ..objective.critic import frozen
from ..objective.losses import AdversarialLoss
from ..objective.weights import power_iterated_once
from ..ranges import require_memory
from ..recipes.objective import ObjectiveConfig
from ..schedulers import DDGANScheduler
from ..training import DDGANTask, GANTask, LazyPenalty, OptimizerConfig
from ..training.compilation import CompiledTerms
from ..training.context import Terms
from ..training.optimizers import make_optimizer
from ..training.step import discriminator_terms, generator_terms, optimize
from .catalogue import MODELS, Model, Technique

Batch = tuple[torch.Tensor, torch.Tensor | None]


class NotPossible(RuntimeError):
    """A technique cannot be run here; the message says why."""


@dataclass(frozen=True)
class Setting:
    """What all cases of a measurement share.

    Attributes:
        model: networks and how they are trained.
        batch_size: images of a discriminator's update.
        device: ``cpu``, ``cuda`` or ``mps``.
        dtype: ``float32`` (with TF32 on an accelerator, as in a training), or ``bf16`` (autocast).
        seed: of weights, images and noise.
    """

    model: Model
    batch_size: int
    device: str
    dtype: str = "float32"
    seed: int = 0

    def accelerator(self) -> Accelerator:
        """Accelerate for this setting.

        Raises:
            InputError: there is no such device here.
        """
        available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not available[self.device]:
            raise InputError(f"there is no device {self.device!r} here; there is: {_names(available)}")
        mixed = "bf16" if self.dtype == "bf16" else "no"
        accelerator = Accelerator(cpu=self.device == "cpu", mixed_precision=mixed)
        if accelerator.device.type != self.device:
            raise InputError(f"Accelerate takes {accelerator.device.type!r} here: pass --device {accelerator.device}")
        if self.device == "cuda":
            torch.set_float32_matmul_precision("high")
        return accelerator


def setting_from(arguments: argparse.Namespace) -> Setting:
    """The setting that the command's options describe."""
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Setting(MODELS[arguments.model], arguments.batch_size, device, arguments.dtype)


def _names(available: dict[str, bool]) -> str:
    return ", ".join(name for name, there in available.items() if there)


def build_generator(model: Model, channels: int) -> tuple[nn.Module, DDGANTask | GANTask]:
    """The generator and what it plays.

    Args:
        channels: of the images.
    """
    network = getattr(models, f"{model.family}Generator")
    if model.family == "DDGAN":
        generator = network(sample_size=model.size, in_channels=channels, **model.generator)
        return generator, DDGANTask(DDGANScheduler(), generator.config.latent_dim)
    generator = network(sample_size=model.size, out_channels=channels, num_classes=model.classes, **model.generator)
    return generator, GANTask(generator.latent_dim, model.classes)


def build_discriminator(model: Model, channels: int, objective: ObjectiveConfig) -> nn.Module:
    """The discriminator with the normalizers of an objective.

    Args:
        channels: of the images.
    """
    network = getattr(models, f"{model.family}Discriminator")
    shape = {"in_channels": channels}
    if model.family != "DDGAN":  # which has neither a size nor classes of its own
        shape |= {"sample_size": model.size, "num_classes": model.classes}
    discriminator = network(**shape, **model.discriminator)
    objective.prepare(discriminator)
    return discriminator


def objective_of(model: Model, technique: Technique) -> ObjectiveConfig:
    """The loss of a model with a technique.

    Raises:
        InputError: techniques that exclude each other.
    """
    return ObjectiveConfig(**{"loss": model.loss, "penalty": "none", **technique.options})


def optimizer_config(model: Model, player: int) -> OptimizerConfig:
    """Adam of the generator (0) or the discriminator (1)."""
    return OptimizerConfig(learning_rate=model.learning_rates[player], arguments={"betas": list(model.betas)})


@dataclass(frozen=True)
class Player:
    """A network with what trains it.

    Attributes:
        network: the module itself.
        prepared: as Accelerate wrapped it.
    """

    network: nn.Module
    prepared: nn.Module
    optimizer: torch.optim.Optimizer

    def tensors(self) -> Iterator[torch.Tensor]:
        """Parameters, buffers and the optimizer's state."""
        states = (value for state in self.optimizer.state.values() for value in state.values())
        kept = (value for value in states if isinstance(value, torch.Tensor))
        return chain(self.network.parameters(), self.network.buffers(), kept)


class Arena:
    """Networks, a batch and the accelerator: what the steps of all cases work with.

    All techniques share one generator, and those that leave the discriminator's weights and output alone share one
    discriminator, so that many techniques fit into memory at once and can be measured in turn.

    Raises:
        InputError: there is no such device, or the networks cannot take such a batch.
    """

    def __init__(self, setting: Setting):
        self.setting, model = setting, setting.model
        # An image, and what the networks keep of it until the backward pass: a hundred times as much or more.
        image = 4 * model.channels * model.size**2
        require_memory(100 * setting.batch_size * image, f"a batch of {setting.batch_size:,} images")
        self.accelerator = setting.accelerator()
        self.device = self.accelerator.device
        torch.manual_seed(setting.seed)
        generator, self.task = build_generator(model, model.channels)
        self.average = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(model.ema_decay))
        self.average.to(self.device).requires_grad_(False)
        self.generator = self._player(generator, 0)
        self._discriminators: dict[str, Player] = {}
        self.rng = torch.Generator(self.device).manual_seed(setting.seed)
        self.batch = self._batch(setting.batch_size)
        self.generator_batch = self._batch(setting.batch_size * model.generator_batches)

    def _player(self, network: nn.Module, player: int) -> Player:
        network.train()
        optimizer = make_optimizer(optimizer_config(self.setting.model, player), network)
        network.to(self.device, memory_format=torch.channels_last)  # as in a training
        return Player(network, self.accelerator.prepare(network), optimizer)

    def _batch(self, size: int) -> Batch:
        model = self.setting.model
        shape = (size, model.channels, model.size, model.size)
        pixels = torch.randint(256, shape, generator=self.rng, device=self.device, dtype=torch.uint8)
        if model.classes is None:
            return pixels, None
        return pixels, torch.randint(model.classes, (size,), generator=self.rng, device=self.device)

    def discriminator(self, objective: ObjectiveConfig) -> Player:
        """The discriminator with an objective's normalizers; always from the same seed."""
        key = repr(objective.normalizers())
        if key not in self._discriminators:
            torch.manual_seed(self.setting.seed)
            network = build_discriminator(self.setting.model, self.setting.model.channels, objective)
            for layer in network.modules():
                if hasattr(layer, "require_batch"):
                    layer.require_batch(self.setting.batch_size)
                    layer.require_batch(len(self.generator_batch[0]))
            self._discriminators[key] = self._player(network, 1)
        return self._discriminators[key]


class Case:
    """The steps of one technique.

    Args:
        arena: what it works with.
        technique: one that is not lazy.
        compiled: both players' terms through ``torch.compile``, as ``torch_compile`` does in a training.

    Raises:
        ValueError: the technique cannot be applied to these networks.
    """

    def __init__(self, arena: Arena, technique: Technique, compiled: bool = False):
        self.arena, self.technique, self.compiled = arena, technique, compiled
        objective = objective_of(arena.setting.model, technique)
        self.loss: AdversarialLoss
        self.penalties: list[LazyPenalty]
        self.loss, self.penalties = objective.build()
        self.player = arena.discriminator(objective)
        self._discriminator_terms = self._as_asked(discriminator_terms)
        self._generator_terms = self._as_asked(generator_terms)

    def _as_asked(self, terms: Callable[..., Terms]) -> Callable[..., Terms]:
        def refuse(line: str) -> None:
            raise NotPossible(line)

        return CompiledTerms(terms, refuse) if self.compiled else terms

    @property
    def steps(self) -> dict[str, Callable[[], Any]]:
        """Name -> a step."""
        return {"discriminator": self.discriminator, "generator": self.generator, "iteration": self.iteration}

    def _micro_batches(self, batch: Batch) -> Sequence[Batch]:
        pixels, labels = batch
        return [(from_pixels(pixels), labels)]

    def discriminator(self) -> Terms:
        """One update of the discriminator."""
        arena = self.arena

        def terms_of(images: torch.Tensor, labels: torch.Tensor | None) -> Terms:
            draw = arena.task.draw(images, labels, arena.rng)
            return self._discriminator_terms(
                arena.generator.network, self.player.prepared, arena.task, self.loss, self.penalties, draw
            )

        return self._update(self.player, terms_of, arena.batch)

    def generator(self) -> Terms:
        """One update of the generator."""
        arena = self.arena

        def terms_of(images: torch.Tensor, labels: torch.Tensor | None) -> Terms:
            draw = arena.task.draw(images, labels, arena.rng)
            return self._generator_terms(
                arena.generator.prepared, self.player.network, arena.task, self.loss, draw, self.penalties
            )

        with frozen(self.player.network):
            return self._update(arena.generator, terms_of, arena.generator_batch)

    def _update(self, player: Player, terms_of: Callable[..., Terms], batch: Batch) -> Terms:
        with power_iterated_once(self.player.network):
            return optimize(
                self.arena.accelerator, player.prepared, player.optimizer, terms_of, self._micro_batches(batch)
            )

    def iteration(self) -> None:
        """The discriminator's updates, the generator's, and that of the averaged generator."""
        for _ in range(self.arena.setting.model.discriminator_steps):
            self.discriminator()
        self.generator()
        self.arena.average.update_parameters(self.arena.generator.network)

    def forget_gradients(self) -> None:
        """As before the first step, so that gradients count among what a step allocates."""
        for player in (self.arena.generator, self.player):
            player.optimizer.zero_grad(set_to_none=True)

    def resident(self) -> Iterator[torch.Tensor]:
        """What a training holds between steps: networks, optimizers' states and the averaged generator."""
        average = self.arena.average
        return chain(self.arena.generator.tensors(), self.player.tensors(), average.parameters(), average.buffers())
