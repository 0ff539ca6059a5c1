"""The generator's part of a training step: by its adversarial loss, or along the functional gradient.

The trainer knows only the methods of ``GeneratorStep``. A training step is ``open``, the discriminator's updates
against ``opponent`` samples, ``close``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import nn
from torch.func import functional_call

from ..errors import InputError, TrainingDiverged
from ..objective.critic import flat_logits, frozen
from ..objective.functional_gradient import (
    FunctionalGradientFlow,
    Scaling,
    StageConfig,
    StageCost,
    group_size,
    regression_loss,
)
from ..objective.losses import AdversarialLoss
from ..pipelines.base import evaluating
from ..pipelines.flow import save_flow
from .config import TrainingConfig
from .steps import LazyPenalty, Task, Terms, iterated_once, optimize, penalty_terms_of_generator
from .tasks import Draw
from .untouched import copied

Batch = tuple[torch.Tensor, torch.Tensor | None]


@dataclass(frozen=True)
class Game:
    """What a generator's step works with.

    Attributes:
        generator, discriminator: the modules themselves.
        prepared_generator: the generator as Accelerate wrapped it; its gradients are synchronized.
        optimizer: the generator's.
        generator_terms: ``steps.generator_terms``, or its compiled form.
        micro_batches: (batch from the loader, images in each, random generator) -> micro-batches of images in [-1, 1].
        micro_batch_size: images of a discriminator's micro-batch on this process.
        generator_micro_batch_size: likewise, of the generator's batch.
        accumulation: micro-batches of one optimizer step.
    """

    accelerator: Accelerator
    task: Task
    loss: AdversarialLoss
    penalties: Sequence[LazyPenalty]
    generator: nn.Module
    discriminator: nn.Module
    prepared_generator: nn.Module
    optimizer: torch.optim.Optimizer
    generator_terms: Callable[..., Terms]
    micro_batches: Callable[[Batch, int, torch.Generator], list[Batch]]
    micro_batch_size: int
    generator_micro_batch_size: int
    accumulation: int


class GeneratorStep(Protocol):
    """How the generator learns.

    Attributes:
        interval: training steps from one batch of images for the generator to the next; the first comes with step 0.
    """

    interval: int

    def attach(self, discriminator: nn.Module, accelerator: Accelerator, config: TrainingConfig) -> None:
        """Called once, before Accelerate wraps the discriminator.

        Raises:
            InputError: the settings of the run do not fit.
        """

    def opponent(self, game: Game, rng: torch.Generator) -> Task:
        """The task whose generated images the discriminator sees."""

    def open(self, game: Game, batch: Batch | None, step: int, rng: torch.Generator) -> Terms:
        """What comes before the discriminator's updates; returns terms for the logs."""

    def close(self, game: Game, batch: Batch | None, rng: torch.Generator) -> Terms:
        """What comes after them."""

    def learns(self, step: int) -> bool:
        """Whether the generator changes in this step, counted from 0."""

    def flow(self) -> FunctionalGradientFlow | None:
        """The steps that the generator has not learned yet; None where there is no such thing."""

    def load(self, config: TrainingConfig) -> tuple[float, float]:
        """Per training step: images that pass a discriminator outside its updates, images of generator updates."""

    def describe(self, config: TrainingConfig) -> str | None:
        """A line on what it costs, for the start of a run."""

    def export(self, folder: Path) -> None:
        """Writes what belongs to the finished pipeline."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass
class AdversarialStep:
    """The generator descends its part of the adversarial loss, once for each training step."""

    interval = 1

    def attach(self, discriminator: nn.Module, accelerator: Accelerator, config: TrainingConfig) -> None: ...

    def opponent(self, game: Game, rng: torch.Generator) -> Task:
        return game.task

    def open(self, game: Game, batch: Batch | None, step: int, rng: torch.Generator) -> Terms:
        return {}

    def close(self, game: Game, batch: Batch, rng: torch.Generator) -> Terms:
        def terms_of(images: torch.Tensor, labels: torch.Tensor | None) -> Terms:
            return self.terms(game, game.task.draw(images, labels, rng), rng)

        parts = game.micro_batches(batch, game.generator_micro_batch_size, rng)
        with frozen(game.discriminator), iterated_once(game.discriminator):
            return optimize(game.accelerator, game.prepared_generator, game.optimizer, terms_of, parts)

    def terms(self, game: Game, draw: Draw, rng: torch.Generator) -> Terms:
        """The terms of the generator's loss on one micro-batch."""
        return game.generator_terms(
            game.prepared_generator, game.discriminator, game.task, game.loss, draw, game.penalties
        )

    def learns(self, step: int) -> bool:
        return True

    def flow(self) -> FunctionalGradientFlow | None:
        return None

    def load(self, config: TrainingConfig) -> tuple[float, float]:
        return 0.0, config.effective_generator_batch_size

    def describe(self, config: TrainingConfig) -> str | None:
        return None

    def export(self, folder: Path) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass
class FunctionalGradientStep(AdversarialStep):
    """The generator is regressed on its samples after ``steps`` steps along the current discriminator's gradient.

    One optimizer step for each training step, as in an ordinary GAN, with any loss and penalty of the discriminator.
    With ``steps`` = 1 and ``scaling`` = ``logd`` it is ``step_size`` times the non-saturating loss's gradient.

    Args:
        step_size, scaling, noise: see ``FunctionalGradientFlow``.
        steps: functional-gradient steps along the same discriminator.

    Raises:
        ValueError: a value is outside its range.
    """

    step_size: float = 1.0
    scaling: Scaling = "kl"
    noise: float = 0.0
    steps: int = 1

    def __post_init__(self) -> None:
        FunctionalGradientFlow([], self.step_size, self.scaling, self.noise)
        if self.steps < 1:
            raise ValueError(f"steps is at least 1, not {self.steps}")

    def terms(self, game: Game, draw: Draw, rng: torch.Generator) -> Terms:
        fake = game.task.generate(game.prepared_generator, draw)
        flow = FunctionalGradientFlow([game.discriminator] * self.steps, self.step_size, self.scaling, self.noise)
        loss = regression_loss(fake, flow(fake, rng=rng, **draw.conditioning))

        def logits() -> Any:
            return game.discriminator(fake, **draw.conditioning)

        return {"generator_loss": loss, **penalty_terms_of_generator(game.penalties, logits, draw.conditioning)}

    def load(self, config: TrainingConfig) -> tuple[float, float]:
        return self.steps * config.effective_generator_batch_size, config.effective_generator_batch_size


def _share_buffers(network: nn.Module, accelerator: Accelerator) -> None:
    """Gives every process the buffers of the first; DDP does so only in the next forward pass of a training."""
    if accelerator.num_processes > 1:
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, 0)


@dataclass(frozen=True)
class TransportedTask:
    """A task whose generated images are those of the generator in eval mode, moved by a flow."""

    task: Task
    flow: FunctionalGradientFlow
    rng: torch.Generator

    def draw(self, images: torch.Tensor, labels: torch.Tensor | None, rng: torch.Generator) -> Draw:
        return self.task.draw(images, labels, rng)

    @torch.no_grad()
    def generate(self, generator: nn.Module, draw: Draw) -> torch.Tensor:
        with evaluating(generator):
            start = self.task.generate(generator, draw)
        return self.flow(start, rng=self.rng, **draw.conditioning)


@dataclass
class StagedFunctionalGradient:
    """xICFG: stages of T functional-gradient steps, after each of which the generator learns where its samples went.

    A training step is one functional-gradient step: the discriminator's updates against samples that the stored
    discriminators of the stage have moved, and one more stored discriminator. The generator's batch is the pool of N
    samples of a stage; it learns them at the start of the next stage, with a fresh state of its optimizer, so that at
    the end of every step the samples of the method are those of the generator moved by ``flow()``.

    The stored discriminators are copies of the weights alone, and run in eval mode.

    Args:
        config: the numbers of xICFG.
    """

    config: StageConfig = field(default_factory=StageConfig)

    def __post_init__(self) -> None:
        self._snapshots: list[dict[str, torch.Tensor]] = []

    @property
    def interval(self) -> int:
        return self.config.steps

    def attach(self, discriminator: nn.Module, accelerator: Accelerator, config: TrainingConfig) -> None:
        pool, batch = config.effective_generator_batch_size, config.batch_size
        if pool % batch:
            raise InputError(f"the pool of {pool} (generator_batch_size) is no multiple of the batch_size {batch}")
        regressions = self._regressions(config)
        if config.ema_decay is not None and 1 / (1 - config.ema_decay) > max(regressions, 10):
            raise InputError(
                f"the generator learns {regressions} times in this run, and an average with ema_decay "
                f"{config.ema_decay} remembers more than that: set ema_decay to null, or lower it"
            )
        self._seed, self._accelerator = config.seed, accelerator
        self._snapshots = []  # of this run alone
        self._template = copied(discriminator).eval().requires_grad_(False).to(accelerator.device)
        self._group = group_size(discriminator)

    def _critic(self, state: dict[str, torch.Tensor]) -> Callable[..., Any]:
        def critic(samples: torch.Tensor, **conditioning: torch.Tensor) -> Any:
            with self._accelerator.autocast():
                return functional_call(self._template, state, (samples,), conditioning)

        return critic

    def _critics(self) -> list[Callable[..., Any]]:
        return [self._critic(state) for state in self._snapshots]

    def learns(self, step: int) -> bool:
        return step % self.config.steps == 0

    def flow(self) -> FunctionalGradientFlow:
        return self._flow_of(self._critics())

    def _flow_of(self, critics: Sequence[Callable[..., Any]]) -> FunctionalGradientFlow:
        return self.config.flow(critics, self._group)

    def opponent(self, game: Game, rng: torch.Generator) -> Task:
        return TransportedTask(game.task, self.flow(), rng)

    def open(self, game: Game, batch: Batch | None, step: int, rng: torch.Generator) -> Terms:
        if len(self._snapshots) == self.config.steps:
            terms = self._learn(game, batch, step // self.config.steps, rng)
            self._snapshots.clear()
            return terms
        if step == 0 and self.config.initial_scale is not None:
            self._initialize(game, batch, rng)
        return {}

    def close(self, game: Game, batch: Batch | None, rng: torch.Generator) -> Terms:
        _share_buffers(game.discriminator, game.accelerator)
        frozen_weights = {name for name, value in game.discriminator.named_parameters() if not value.requires_grad}
        state = game.discriminator.state_dict()
        self._snapshots.append({name: state[name].detach().clone() for name in state if name not in frozen_weights})
        return {}

    def _pool(self, game: Game, batch: Batch, rng: torch.Generator) -> list[Draw]:
        parts = game.micro_batches(batch, game.micro_batch_size, rng)
        return [game.task.draw(images, labels, rng) for images, labels in parts]

    def _initialize(self, game: Game, batch: Batch, rng: torch.Generator) -> None:
        """Teaches the generator a random projection of its latents."""
        draws = self._pool(game, batch, rng)
        if "latents" not in draws[0].noise:
            raise InputError("initial_scale needs a generator with latents: set it to null")
        latents, shape = draws[0].noise["latents"], draws[0].real.shape
        same_everywhere = torch.Generator(latents.device).manual_seed(self._seed)
        size = (latents.shape[1], shape[1:].numel())
        weight = self.config.initial_scale * torch.randn(size, generator=same_everywhere, device=latents.device)
        targets = [(draw.noise["latents"] @ weight).clamp(-1, 1).view(-1, *shape[1:]) for draw in draws]
        self._regress(game, draws, targets, rng)

    def _learn(self, game: Game, batch: Batch, stage: int, rng: torch.Generator) -> Terms:
        """Teaches the generator where a pool of its samples went."""
        draws, targets, distances = self._pool(game, batch, rng), [], []
        *first, last = self._critics()
        for draw in draws:
            with torch.no_grad(), evaluating(game.generator):
                start = game.task.generate(game.generator, draw)
            before = self._flow_of(first)(start, rng=rng, **draw.conditioning)
            if not targets:
                gap = self._gap(game, last, draw, before, stage)
            targets.append(self._flow_of([last])(before, rng=rng, **draw.conditioning))
            distances.append((targets[-1] - start).flatten(1).norm(dim=1).mean())
        loss = self._regress(game, draws, targets, rng)
        return {"generator_loss": loss, "transport": torch.stack(distances).mean(), "logit_gap": gap}

    @torch.no_grad()
    def _gap(self, game: Game, critic: Callable[..., Any], draw: Draw, fake: torch.Tensor, stage: int) -> torch.Tensor:
        """mean D(real) - mean D(fake) of the last discriminator, over all processes."""
        means = [flat_logits(critic(points, **draw.conditioning)).mean() for points in (draw.real, fake)]
        gap = game.accelerator.reduce(means[0] - means[1], "mean")
        limit = self.config.max_gap
        if limit is not None and stage > self.config.max_gap_after and gap > limit:
            raise TrainingDiverged(
                f"the discriminator tells real from generated images by {gap:.3g} > max_gap {limit}"
            )
        return gap

    def _regress(
        self, game: Game, draws: Sequence[Draw], targets: Sequence[torch.Tensor], rng: torch.Generator
    ) -> torch.Tensor:
        """Epochs over the pool with a fresh optimizer; returns the mean loss of the last."""
        config, pool, target = self.config, Draw.join(draws), torch.cat(list(targets))
        size, decays, previous = game.micro_batch_size, 0, float("inf")
        game.optimizer.state.clear()
        rates = [group["lr"] for group in game.optimizer.param_groups]

        def terms_of(part: torch.Tensor) -> Terms:
            fake = game.task.generate(game.prepared_generator, pool.pick(part))
            return {"regression": regression_loss(fake, target[part])}

        for _ in range(config.epochs):
            order = torch.randperm(len(target), generator=rng, device=target.device)
            losses = [
                optimize(
                    game.accelerator,
                    game.prepared_generator,
                    game.optimizer,
                    terms_of,
                    [(part,) for part in batch.split(size)],
                )["regression"]
                for batch in order.split(size * game.accumulation)
            ]
            loss = game.accelerator.reduce(torch.stack(losses).mean(), "mean")
            if loss > previous:
                decays += 1
                if decays > config.max_decays:
                    break
                for group in game.optimizer.param_groups:
                    group["lr"] *= config.learning_rate_decay
            previous = float(loss)
        game.optimizer.state.clear()  # the next regression starts afresh, and checkpoints need not hold it
        for group, rate in zip(game.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        _share_buffers(game.generator, game.accelerator)
        return loss

    def _regressions(self, config: TrainingConfig) -> int:
        """How often the generator learns in a whole run."""
        return (config.max_steps - 1) // self.config.steps

    def _cost(self, config: TrainingConfig) -> StageCost:
        return self.config.cost(config.batch_size, config.discriminator_steps, config.effective_generator_batch_size)

    def load(self, config: TrainingConfig) -> tuple[float, float]:
        cost, steps = self._cost(config), self.config.steps
        return cost.transport_passes / steps, cost.generator_updates / steps

    def describe(self, config: TrainingConfig) -> str:
        stage = f"a stage of {self.config.steps} steps costs {self._cost(config)}"
        return f"the generator learns {self._regressions(config)} times; {stage}"

    def export(self, folder: Path) -> None:
        save_flow(folder / "flow", self.flow(), self._template, self._snapshots)

    def state_dict(self) -> dict[str, Any]:
        return {"snapshots": self._snapshots}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        device = self._accelerator.device
        self._snapshots = [{name: value.to(device) for name, value in one.items()} for one in state["snapshots"]]
