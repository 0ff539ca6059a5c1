"""Samples of a generator in training, as it would be exported: for pictures and for evaluations."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from PIL import Image
from torch import nn

from ..images import grid_columns, image_grid
from ..objective.functional_gradient import FunctionalGradientFlow
from ..seeds import Purpose, seed_for
from .config import TrainingConfig
from .matching_buffers import with_matching_buffers
from .tasks import TrainableTask


def random_generator(
    device: torch.device, seed: int, purpose: Purpose, step: int = 0, rank: int = 0
) -> torch.Generator:
    """A random generator with a seed of ``seed_for``."""
    return torch.Generator(device).manual_seed(seed_for(seed, purpose, step, rank))


class Sampler:
    """Draws from the generator that would be exported; the same randomness at every call, so that pictures compare.

    Args:
        task: knows how the generator is sampled.
        generator: gives the generator: the average if there is one.
        config: of the training.
        shape: (channels, height, width) of an image.
        batch: images of a batch that BatchNorm statistics are gathered over.
        device: of the generator.
    """

    def __init__(
        self,
        task: TrainableTask,
        generator: Callable[[], nn.Module],
        config: TrainingConfig,
        shape: tuple[int, int, int],
        batch: int,
        device: torch.device,
    ):
        self.task, self.generator, self.config = task, generator, config
        self.shape, self.batch, self.device = shape, batch, device

    def generator_for_sampling(self) -> AbstractContextManager[nn.Module]:
        """The generator in eval mode with buffers that belong to its weights, see ``with_matching_buffers``."""
        rng = random_generator(self.device, self.config.seed, "standing")

        def draw(network: nn.Module) -> None:
            self.task.standing_batch(network, self.batch, self.shape, rng)

        return with_matching_buffers(self.generator(), draw, self.config.standing_batches)

    @torch.no_grad()
    def draw(self, count: int, flow: FunctionalGradientFlow | None = None) -> torch.Tensor:
        """Images (count, channels, height, width) in [-1, 1], on the CPU.

        Args:
            flow: functional-gradient steps that follow the generator; None takes none.
        """
        rng = random_generator(self.device, self.config.seed, "samples")
        with self.generator_for_sampling() as network:
            return self.task.sample(network, count, self.shape, rng, flow=flow).float().cpu()

    @torch.no_grad()
    def chunk(
        self, network: nn.Module, number: int, size: int, flow: FunctionalGradientFlow | None = None
    ) -> torch.Tensor:
        """Chunk ``number`` of the samples of an evaluation, (size, ...), of a generator with matching buffers."""
        rng = random_generator(self.device, self.config.seed, "evaluation", number)
        return self.task.sample(network, size, self.shape, rng, flow=flow, first=number * size)

    def grid(self, flow: FunctionalGradientFlow | None = None) -> Image.Image:
        """A picture of ``sample_count`` samples; of a conditional GAN, one column for each class."""
        count = self.config.sample_count
        columns = grid_columns(count, getattr(self.task, "num_classes", None))
        return image_grid(self.draw(count, flow), columns=columns)
