"""What the functions of a training step work with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn

from ..images import from_pixels
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
    micro_batch_size: int
    generator_micro_batch_size: int

    def micro_batches(self, batch: Batch, size: int, rng: torch.Generator) -> list[Batch]:
        """A batch of uint8 images in parts of ``size`` images in [-1, 1]; each mirrored by chance, if that is set."""
        pixels, labels = batch
        device = self.accelerator.device
        images = from_pixels(pixels.to(device))
        if self.config.horizontal_flip:
            mirrored = torch.rand(len(images), 1, 1, 1, generator=rng, device=device) < 0.5
            images = torch.where(mirrored, images.flip(3), images)
        parts = images.split(size)
        labels_of = [None] * len(parts) if labels is None else labels.to(device).split(size)
        return list(zip(parts, labels_of, strict=True))
