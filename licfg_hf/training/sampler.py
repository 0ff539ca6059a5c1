"""Samples of a generator in training, as it would be exported: for pictures and for evaluations."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..images import grid_columns, image_grid
from ..objective.weights import refresh_power_iterations
from ..seeds import Purpose, seed_for
from .tasks import Flow

if TYPE_CHECKING:
    from .trainer import Trainer


def random_generator(
    device: torch.device, seed: int, purpose: Purpose, step: int = 0, rank: int = 0
) -> torch.Generator:
    """A random generator with a seed of ``seed_for``."""
    return torch.Generator(device).manual_seed(seed_for(seed, purpose, step, rank))


class Sampler:
    """Draws from the generator that would be exported; the same randomness at every call, so that pictures compare."""

    def __init__(self, trainer: "Trainer"):
        self.trainer, self.task, self.shape = trainer, trainer.task, trainer.images.shape

    def _rng(self, purpose: Purpose, step: int = 0) -> torch.Generator:
        return random_generator(self.trainer.device, self.trainer.config.seed, purpose, step)

    def generator_for_sampling(self, known: Mapping[str, Tensor] | None = None) -> AbstractContextManager[nn.Module]:
        """The generator in eval mode with buffers that belong to its weights, see ``with_matching_buffers``."""
        rng, size = self._rng("standing"), self.trainer.generator_micro_batch_size

        def draw(network: nn.Module) -> None:
            self.task.standing_batch(network, size, self.shape, rng)

        return with_matching_buffers(self.trainer.final_generator, draw, self.trainer.config.standing_batches, known)

    @torch.no_grad()
    def draw(self, count: int, flow: Flow = None) -> Tensor:
        """Images (count, channels, height, width) in [-1, 1], on the CPU, moved by the flow if there is one."""
        with self.generator_for_sampling() as network:
            return self.task.sample(network, count, self.shape, self._rng("samples"), flow=flow).float().cpu()

    @torch.no_grad()
    def chunk(self, network: nn.Module, size: int, flow: Flow, number: int) -> Tensor:
        """Chunk ``number`` of the samples of an evaluation, (size, ...), of a generator with matching buffers."""
        rng = self._rng("evaluation", number)
        return self.task.sample(network, size, self.shape, rng, flow=flow, first=number * size)

    def grid(self, flow: Flow = None) -> Image.Image:
        """A picture of ``sample_count`` samples; of a conditional GAN, one column for each class."""
        count = self.trainer.config.sample_count
        columns = grid_columns(count, getattr(self.task, "num_classes", None))
        return image_grid(self.draw(count, flow), columns=columns)


@contextmanager
def with_matching_buffers(
    network: nn.Module,
    draw: Callable[[nn.Module], Any],
    batches: int | None,
    known: Mapping[str, Tensor] | None = None,
) -> Iterator[nn.Module]:
    """The network in eval mode with buffers that belong to its weights; afterwards all is as it was.

    The buffers of an average are copies of the trained network's, so its singular vectors are a step or more behind
    and its BatchNorm statistics are another network's. These become the mean over so many ``batches`` (BigGAN's
    standing statistics), each passed through the network by ``draw``; ``None`` keeps the running ones.
    Where buffers are ``known``, as those of the main process are to others, they become these.
    """
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    was_training = network.training
    try:
        if known is not None:
            _set_buffers(network, known)
        else:
            refresh_power_iterations(network)
            if batches is not None:
                _gather_statistics(network, draw, batches)
        yield network.eval()
    finally:
        _set_buffers(network, buffers)
        network.train(was_training)


@torch.no_grad()
def _set_buffers(network: nn.Module, values: Mapping[str, Tensor]) -> None:
    for name, buffer in network.named_buffers():
        buffer.copy_(values[name])


@torch.no_grad()
def _gather_statistics(network: nn.Module, draw: Callable[[nn.Module], Any], batches: int) -> None:
    norms = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
    network.train()
    for _ in range(batches if norms else 0):
        draw(network)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
