"""xICFG in stages: the discriminators of a stage are kept, and the generator learns where they moved its samples."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import InputError, TrainingDiverged
from ..objective.critic import Critic
from ..objective.functional_gradient import FunctionalGradientFlow, StageConfig, StageCost, group_size, regression_loss
from ..objective.logits import mean_logit
from ..pipelines.base import evaluating
from ..pipelines.flow import save_flow
from .config import TrainingConfig
from .context import Batch, GeneratorStep, StepContext, Terms
from .step import optimize
from .tasks import MicroBatch, Task
from .untouched import copied


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

    def draw(self, images: Tensor, labels: Tensor | None, rng: torch.Generator) -> MicroBatch:
        return self.task.draw(images, labels, rng)

    @torch.no_grad()
    def generate(self, generator: nn.Module, micro_batch: MicroBatch) -> Tensor:
        with evaluating(generator):
            start = self.task.generate(generator, micro_batch)
        return self.flow(start, rng=self.rng, **micro_batch.fake_conditioning)


@dataclass
class StagedFunctionalGradient(GeneratorStep):
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
        self._snapshots: list[dict[str, Tensor]] = []

    @property
    def interval(self) -> int:
        return self.config.steps

    def setup(self, discriminator: nn.Module, accelerator: Accelerator, config: TrainingConfig) -> None:
        pool, batch = config.effective_generator_batch_size, config.batch_size
        if pool % batch:
            raise InputError(f"the pool of {pool} (generator_batch_size) is not a multiple of the batch_size {batch}")
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

    def _critic(self, state: dict[str, Tensor]) -> Critic:
        def critic(samples: Tensor, **conditioning: Tensor) -> Any:
            with self._accelerator.autocast():
                return functional_call(self._template, state, (samples,), conditioning)

        return critic

    def learns(self, step: int) -> bool:
        return step % self.config.steps == 0

    def flow(self) -> FunctionalGradientFlow:
        return self._flow_of(self._snapshots)

    def _flow_of(self, snapshots: Sequence[dict[str, Tensor]]) -> FunctionalGradientFlow:
        return self.config.flow([self._critic(state) for state in snapshots], self._group)

    def fake_source(self, context: StepContext, rng: torch.Generator) -> Task:
        return TransportedTask(context.task, self.flow(), rng)

    def before_updates(self, context: StepContext, batch: Batch | None, step: int, rng: torch.Generator) -> Terms:
        if batch is None:  # the pool comes with the first step of a stage
            return {}
        if len(self._snapshots) == self.config.steps:
            terms = self._learn(context, batch, step // self.config.steps, rng)
            self._snapshots.clear()
            return terms
        if step == 0 and self.config.initial_scale is not None:
            self._initialize(context, batch, rng)
        return {}

    def after_updates(self, context: StepContext, batch: Batch | None, rng: torch.Generator) -> Terms:
        _share_buffers(context.discriminator, context.accelerator)
        frozen_weights = {name for name, value in context.discriminator.named_parameters() if not value.requires_grad}
        state = context.discriminator.state_dict()
        self._snapshots.append({name: state[name].detach().clone() for name in state if name not in frozen_weights})
        return {}

    def _pool(self, context: StepContext, batch: Batch, rng: torch.Generator) -> list[MicroBatch]:
        parts = context.micro_batches(batch, rng, context.micro_batch_size)
        return [context.task.draw(images, labels, rng) for images, labels in parts]

    def _initialize(self, context: StepContext, batch: Batch, rng: torch.Generator) -> None:
        """Teaches the generator a random projection of its latents."""
        pool = self._pool(context, batch, rng)
        if "latents" not in pool[0].noise:
            raise InputError("initial_scale needs a generator with latents: set it to null")
        latents, shape = pool[0].noise["latents"], pool[0].real.shape
        scale = self.config.initial_scale or 0.0
        same_everywhere = torch.Generator(latents.device).manual_seed(self._seed)
        size = (latents.shape[1], shape[1:].numel())
        weight = scale * torch.randn(size, generator=same_everywhere, device=latents.device)
        targets = [(micro_batch.noise["latents"] @ weight).clamp(-1, 1).view(-1, *shape[1:]) for micro_batch in pool]
        self._regress(context, pool, targets, rng)

    def _learn(self, context: StepContext, batch: Batch, stage: int, rng: torch.Generator) -> Terms:
        """Teaches the generator where a pool of its samples went."""
        pool, targets, distances = self._pool(context, batch, rng), [], []
        *first, last = self._snapshots
        for micro_batch in pool:
            with torch.no_grad(), evaluating(context.generator):
                start = context.task.generate(context.generator, micro_batch)
            before = self._flow_of(first)(start, rng=rng, **micro_batch.fake_conditioning)
            if not targets:
                gap = self._gap(context, self._critic(last), micro_batch, before, stage)
            targets.append(self._flow_of([last])(before, rng=rng, **micro_batch.fake_conditioning))
            distances.append((targets[-1] - start).flatten(1).norm(dim=1).mean())
        loss = self._regress(context, pool, targets, rng)
        return {"generator_loss": loss, "transport": torch.stack(distances).mean(), "logit_gap": gap}

    @torch.no_grad()
    def _gap(self, context: StepContext, critic: Critic, micro_batch: MicroBatch, fake: Tensor, stage: int) -> Tensor:
        """mean D(real) - mean D(fake) of the last discriminator, over all processes."""
        sides = ((micro_batch.real, micro_batch.conditioning), (fake, micro_batch.fake_conditioning))
        means = [mean_logit(critic(points, **conditioning)).mean() for points, conditioning in sides]
        gap = cast(Tensor, context.accelerator.reduce(means[0] - means[1], "mean"))
        limit = self.config.max_gap
        if limit is not None and stage > self.config.max_gap_after and gap > limit:
            raise TrainingDiverged(
                f"the discriminator tells real from generated images by {gap:.3g} > max_gap {limit}"
            )
        return gap

    def _regress(
        self, context: StepContext, parts: Sequence[MicroBatch], targets: Sequence[Tensor], rng: torch.Generator
    ) -> Tensor:
        """Epochs over the pool with a fresh optimizer; returns the mean loss of the last."""
        config, pool, target = self.config, MicroBatch.join(parts), torch.cat(list(targets))
        loss = torch.zeros(())
        optimizer, size, decays, previous = context.generator_optimizer, context.micro_batch_size, 0, float("inf")
        clip = context.config.generator_optimizer.clip_grad_norm
        optimizer.state.clear()
        rates = [group["lr"] for group in optimizer.param_groups]

        def terms_of(part: Tensor) -> Terms:
            fake = context.task.generate(context.prepared_generator, pool.pick(part))
            return {"regression": regression_loss(fake, target[part])}

        update = partial(optimize, context.accelerator, context.prepared_generator, optimizer, terms_of)
        for _ in range(config.epochs):
            order = torch.randperm(len(target), generator=rng, device=target.device)
            losses = [
                update([(part,) for part in batch.split(size)], clip)["regression"]
                for batch in order.split(size * context.config.gradient_accumulation_steps)
            ]
            loss = cast(Tensor, context.accelerator.reduce(torch.stack(losses).mean(), "mean"))
            if loss > previous and decays < config.max_decays:
                decays += 1
                for group in optimizer.param_groups:
                    group["lr"] *= config.learning_rate_decay
            elif loss > previous and config.early_stop:
                break
            previous = float(loss)
        optimizer.state.clear()  # the next regression starts afresh, and checkpoints need not hold it
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        _share_buffers(context.generator, context.accelerator)
        return loss

    def _regressions(self, config: TrainingConfig) -> int:
        """How often the generator learns in a whole run."""
        return (config.max_steps - 1) // self.config.steps

    def _cost(self, config: TrainingConfig) -> StageCost:
        return self.config.cost(config.batch_size, config.discriminator_steps, config.effective_generator_batch_size)

    def cost_per_step(self, config: TrainingConfig) -> tuple[float, float]:
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
