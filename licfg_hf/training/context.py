"""What the functions of a training step work with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn

from ..objective.losses import AdversarialLoss
from ..objective.term import LazyPenalty
from .config import TrainingConfig
from .tasks import Task

Terms = dict[str, torch.Tensor]  # named scalars; those with a graph are summed and back-propagated
Batch = tuple[torch.Tensor, torch.Tensor | None]  # images and their labels, (batch, ...) each


@dataclass(frozen=True)
class StepContext:
    """What a step works with.

    Attributes:
        generator, discriminator: the modules themselves.
        prepared_generator, prepared_discriminator: as Accelerate wrapped them; their gradients are synchronized.
        critic, opponent: the prepared discriminator, which the discriminator's updates call, and the plain one, which
            the generator's updates call; both behind the augmentation, where there is one.
        generator_optimizer, discriminator_optimizer: one for each.
        terms: those of the discriminator's loss.
        discriminator_terms, generator_terms: the functions of ``step``, or their compiled forms.
        micro_batches: (batch from the loader, images in each, random generator) -> images in [-1, 1] with labels.
        micro_batch_size, generator_micro_batch_size: images of a micro-batch of this process, for each player.
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
    micro_batches: Callable[[Batch, int, torch.Generator], list[Batch]]
    micro_batch_size: int
    generator_micro_batch_size: int
