"""The context of a training step: the networks and functions of a run, and how its generator learns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..images import from_pixels
from ..objective.functional_gradient import FunctionalGradientFlow
from ..objective.losses import AdversarialLoss
from ..objective.term import LazyPenalty
from ..text import numbered
from .config import TrainingConfig
from .tasks import Task

Terms = dict[str, Tensor]  # named scalars; those with a graph are summed and back-propagated
Batch = tuple[Tensor, Tensor | None]  # images and their labels, (batch, ...) each


@dataclass(frozen=True)
class StepContext:
    """The networks, functions and settings that a step works with.

    Attributes:
        prepared_generator, prepared_discriminator: as Accelerate wrapped them; their gradients are synchronized.
        critic, opponent: the prepared discriminator, which the discriminator's updates call, and the plain one, which
            the generator's updates call; both behind the augmentation, where there is one.
        terms: those of the discriminator's loss.
        discriminator_terms, generator_terms: the functions of ``step``, or their compiled forms.
    """

    accelerator: Accelerator
    config: TrainingConfig
    task: Task
    loss: AdversarialLoss
    terms: Sequence[LazyPenalty]
    generator: nn.Module
    discriminator: nn.Module
    prepared_generator: nn.Module
    prepared_discriminator: nn.Module
    critic: nn.Module
    opponent: nn.Module
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    discriminator_terms: Callable[..., Terms]
    generator_terms: Callable[..., Terms]

    @property
    def micro_batch_size(self) -> int:
        """Images of a micro-batch of this process in the discriminator's updates."""
        return self.config.micro_batch_size(self.config.batch_size, self.accelerator.num_processes)

    def micro_batches(self, batch: Batch, rng: torch.Generator, size: int | None = None) -> list[Batch]:
        """This process's uint8 images of an update, mirrored by chance if that is set, in parts in [-1, 1].

        Each part has ``size`` images; None means ``gradient_accumulation_steps`` parts.
        """
        pixels, labels = batch
        device = self.accelerator.device
        images = from_pixels(pixels.to(device))
        if self.config.horizontal_flip:
            mirrored = torch.rand(len(images), 1, 1, 1, generator=rng, device=device) < 0.5
            images = torch.where(mirrored, images.flip(3), images)
        parts = images.split(size or len(images) // self.config.gradient_accumulation_steps)
        labels_of = [None] * len(parts) if labels is None else labels.to(device).split(len(parts[0]))
        return list(zip(parts, labels_of, strict=True))


def terms_named_apart(terms: "list[Callable[..., Tensor | None]]") -> list[LazyPenalty]:
    """The terms as lazy ones, each under a name of its own: penalty, penalty_2, ..."""
    lazy = [term if isinstance(term, LazyPenalty) else LazyPenalty(term) for term in terms]
    names = numbered(term.name for term in lazy)
    return [replace(term, name=name) for term, name in zip(lazy, names, strict=True)]


class GeneratorStep(Protocol):
    """The way in which the generator learns; a class of one's own derives from this one, and writes what differs.

    ``step.train_step`` calls ``before_updates``, updates the discriminator against the samples of ``fake_source``, and
    calls ``after_updates``. Both return terms for the logs; ``batch`` is None where it is not the generator's turn.
    """

    @property
    def interval(self) -> int:
        """Training steps from one batch of images for the generator to the next; the first comes with step 0."""
        return 1

    def setup(self, discriminator: nn.Module, accelerator: Accelerator, config: TrainingConfig) -> None:
        """Called once, before Accelerate wraps the discriminator; InputError where the settings do not fit."""

    def fake_source(self, context: StepContext, rng: torch.Generator) -> Task:
        """The task whose generated images the discriminator sees."""
        return context.task

    def before_updates(self, context: StepContext, batch: Batch | None, step: int, rng: torch.Generator) -> Terms:
        return {}

    def after_updates(self, context: StepContext, batch: Batch | None, rng: torch.Generator) -> Terms:
        return {}

    def learns(self, step: int) -> bool:
        """True if the generator changes in this step, counted from 0."""
        return True

    def flow(self) -> FunctionalGradientFlow | None:
        """The steps that the generator has not learned yet; None where there is no such thing."""
        return None

    def cost_per_step(self, config: TrainingConfig) -> tuple[float, float]:
        """Per training step: images that pass a discriminator outside its updates, images of generator updates."""
        return 0.0, config.effective_generator_batch_size

    def describe(self, config: TrainingConfig) -> str | None:
        """A line on what it costs, for the start of a run."""
        return None

    def export(self, folder: Path) -> None:
        """Writes what belongs to the finished pipeline."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what ``state_dict`` gave."""
