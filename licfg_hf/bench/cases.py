"""Training steps of named networks with named techniques, as the trainer takes them."""

from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import licfg_hf

from ..data.loader import StepImages
from ..errors import InputError
from ..images import from_pixels
from ..objective.critic import frozen
from ..objective.weights import power_iterated_once
from ..ranges import require_memory
from ..training import DDGANTask, GANTask, LazyPenalty, OptimizerConfig
from ..training.compilation import CompiledTerms
from ..training.context import Terms
from ..training.optimizers import make_optimizer
from ..training.step import discriminator_terms, generator_terms, optimize
from .catalogue import BASELINE, TECHNIQUES, Model

Batch = tuple[torch.Tensor, torch.Tensor | None]
Player = tuple[nn.Module, nn.Module, torch.optim.Optimizer]  # the network, the same as Accelerate wrapped it, its Adam
SEED = 0


def open_device(name: str | None, dtype: str = "float32") -> Accelerator:
    """Accelerate on a device: ``cpu``, ``cuda`` or ``mps``; None is cuda where there is one.

    Raises:
        InputError: there is no such device here.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    name = name or ("cuda" if available["cuda"] else "cpu")
    if not available[name]:
        there = ", ".join(one for one, is_there in available.items() if is_there)
        raise InputError(f"there is no device {name!r} here; there is: {there}")
    accelerator = Accelerator(cpu=name == "cpu", mixed_precision="bf16" if dtype == "bf16" else "no")
    if accelerator.device.type != name:
        raise InputError(f"Accelerate takes {accelerator.device.type!r} here: pass --device {accelerator.device}")
    if name == "cuda":
        torch.set_float32_matmul_precision("high")  # as in a training
    return accelerator


def _parts(technique: str, normalizers: bool) -> list[tuple]:
    parts = [] if technique == BASELINE else [TECHNIQUES[part] for part in technique.split("+")]
    return [part for part in parts if (part[0] == "normalizer") == normalizers]


def build_networks(model: Model, technique: str) -> tuple[nn.Module, nn.Module, DDGANTask | GANTask]:
    """Generator, discriminator with the technique's normalizers, and what they play; always from the same seed."""
    torch.manual_seed(SEED)
    networks = [getattr(licfg_hf, f"{model.family}{player}") for player in ("Generator", "Discriminator")]
    shape: dict[str, Any] = {"sample_size": model.size, "num_classes": model.classes}
    if model.family == "DDGAN":
        generator = networks[0](sample_size=model.size, in_channels=model.channels, **model.generator)
        task, shape = DDGANTask(licfg_hf.DDGANScheduler(), generator.config.latent_dim), {}
    else:
        generator = networks[0](**shape, out_channels=model.channels, **model.generator)
        task = GANTask(generator.latent_dim, model.classes)
    discriminator = networks[1](**shape, in_channels=model.channels, **model.discriminator)
    for _, kind, arguments in _parts(technique, normalizers=True):
        discriminator.add_normalizer(kind, **arguments)
    return generator, discriminator, task


def build_penalties(technique: str) -> list[LazyPenalty]:
    """The technique's terms of the discriminator's loss."""
    parts = _parts(technique, normalizers=False)
    return [LazyPenalty(getattr(licfg_hf, name)(**arguments), name=kind) for kind, name, arguments in parts]


def optimizer_config(model: Model, player: int) -> OptimizerConfig:
    """Adam of the generator (0) or the discriminator (1)."""
    return OptimizerConfig(learning_rate=model.learning_rates[player], arguments={"betas": list(model.betas)})


class Arena:
    """Networks, a batch and the accelerator: what the steps of all techniques work with.

    All techniques share one generator, and those with the same normalizer one discriminator, so that many techniques
    fit into memory at once and can be measured in turn.

    Raises:
        InputError: the networks cannot take such a batch.
    """

    def __init__(self, model: Model, batch_size: int, accelerator: Accelerator):
        self.model, self.accelerator, self.device = model, accelerator, accelerator.device
        # An image, and what the networks keep of it until the backward pass: a hundred times as much or more.
        require_memory(400 * batch_size * model.channels * model.size**2, f"a batch of {batch_size:,} images")
        generator, discriminator, self.task = build_networks(model, BASELINE)
        self.average = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(model.ema_decay))
        self.average.to(self.device).requires_grad_(False)
        self.rng = torch.Generator(self.device).manual_seed(SEED)
        self.sizes = (batch_size * model.generator_batches, batch_size)
        self.batches = [self._batch(size) for size in self.sizes]
        self.images = StepImages([self.batches[1]] * model.discriminator_steps, self.batches[0])
        self.generator = self._player(generator, 0)
        self._discriminators = {"[]": self._player(discriminator, 1)}

    def _player(self, network: nn.Module, player: int) -> Player:
        for layer in network.modules() if player else ():
            if (require := getattr(layer, "require_batch", None)) is not None:
                require(self.sizes[0])
                require(self.sizes[1])
        optimizer = make_optimizer(optimizer_config(self.model, player), network.train())
        # As in a training; PyTorch's overloads do not know a module's memory format.
        network.to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return network, self.accelerator.prepare_model(network), optimizer

    def _batch(self, size: int) -> Batch:
        model = self.model
        shape = (size, model.channels, model.size, model.size)
        pixels = torch.randint(256, shape, generator=self.rng, device=self.device, dtype=torch.uint8)
        if model.classes is None:
            return pixels, None
        return pixels, torch.randint(model.classes, (size,), generator=self.rng, device=self.device)

    def discriminator(self, technique: str) -> Player:
        """The discriminator with a technique's normalizers."""
        key = repr(_parts(technique, normalizers=True))
        if key not in self._discriminators:
            self._discriminators[key] = self._player(build_networks(self.model, technique)[1], 1)
        return self._discriminators[key]


class Case:
    """The steps of one technique.

    Args:
        arena: what it works with.
        compiled: both players' terms through ``torch.compile``, as ``torch_compile`` does in a training.

    Raises:
        ValueError: the technique cannot be applied to these networks.
    """

    def __init__(self, arena: Arena, technique: str, compiled: bool = False):
        self.arena, self.compiled = arena, compiled
        self.loss, self.penalties = licfg_hf.get_loss(arena.model.loss), build_penalties(technique)
        self.players = (arena.generator, arena.discriminator(technique))
        self._terms: Any = (generator_terms, discriminator_terms)
        if compiled:
            self._terms = [CompiledTerms(terms, self._refuse) for terms in self._terms]

    @staticmethod
    def _refuse(line: str) -> None:
        raise RuntimeError(line)

    def discriminator(self, batch: Batch | None = None) -> None:
        """One update of the discriminator, on the arena's batch unless another is given."""
        self._update(1, batch or self.arena.batches[1])

    def generator(self, batch: Batch | None = None) -> None:
        """One update of the generator, likewise."""
        with frozen(self.players[1][0]):
            self._update(0, batch or self.arena.batches[0])

    def _update(self, player: int, batch: Batch) -> None:
        (generator, prepared_generator, _), (critic, prepared_critic, _) = self.players
        task, rng = self.arena.task, self.arena.rng

        def terms_of(images: torch.Tensor, labels: torch.Tensor | None) -> Terms:
            draw = task.draw(images, labels, rng)
            if player == 0:
                return self._terms[0](prepared_generator, critic, task, self.loss, draw, self.penalties)
            return self._terms[1](generator, prepared_critic, task, self.loss, self.penalties, draw)

        _, network, optimizer = self.players[player]
        with power_iterated_once(critic):
            optimize(self.arena.accelerator, network, optimizer, terms_of, [(from_pixels(batch[0]), batch[1])])

    def iteration(self, images: StepImages | None = None) -> None:
        """The discriminator's updates, the generator's, and that of the averaged generator."""
        images = images or self.arena.images
        for batch in images.discriminator:
            self.discriminator(batch)
        self.generator(images.generator)
        self.arena.average.update_parameters(self.players[0][0])

    def forget_gradients(self) -> None:
        """Drops gradients, as before the first step, so that they count among the memory that a step allocates."""
        for _, _, optimizer in self.players:
            optimizer.zero_grad(set_to_none=True)

    def resident(self) -> Iterator[torch.Tensor]:
        """The bytes that a training holds between steps: networks, optimizers' states and the averaged generator."""
        for network in (self.players[0][0], self.players[1][0], self.arena.average):
            yield from (*network.parameters(), *network.buffers())
        for _, _, optimizer in self.players:
            for state in optimizer.state.values():
                yield from (value for value in state.values() if isinstance(value, torch.Tensor))
