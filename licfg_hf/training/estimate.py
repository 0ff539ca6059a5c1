"""An estimate of a step's time, measured on some images before the training begins."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from ..objective.critic import frozen
from ..objective.losses import AdversarialLoss
from ..objective.term import LazyPenalty
from .config import TrainingConfig
from .step import discriminator_terms, generator_terms
from .tasks import MicroBatch, Task

# An update is timed on so many images; on more, up to the whole micro-batch, while it takes less than the seconds:
# then the images do not fill the device, or what a call costs by itself weighs too much.
_FEWEST_IMAGES, _GROWTH = 4, 4
_ENOUGH_SECONDS = 0.1


def seconds_per_step(
    generator: nn.Module,
    discriminator: nn.Module,
    task: Task,
    loss: AdversarialLoss,
    terms: Sequence[LazyPenalty],
    shape: tuple[int, int, int],
    config: TrainingConfig,
    cost: tuple[float, float],
    processes: int,
    device: torch.device,
) -> float:
    """Estimated seconds per training step, from one timed update of each network on some images.

    Args:
        generator: on ``device``; its gradients and buffers change.
        discriminator: likewise.
        shape: (channels, height, width) of an image.
        cost: images per step that pass the discriminator outside its updates, and images of generator updates.
    """
    rng = torch.Generator(device).manual_seed(0)
    synchronize = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    largest = config.micro_batch_size(config.batch_size, processes)
    count = min(_FEWEST_IMAGES, largest)

    def timed(compute: Callable[[], None]) -> float:
        compute()  # the first call also pays for allocations
        synchronize()
        began = time.perf_counter()
        compute()
        synchronize()
        return time.perf_counter() - began

    def draw_images() -> MicroBatch:
        images = torch.rand(count, *shape, generator=rng, device=device) * 2 - 1
        return task.draw(images, torch.zeros(count, dtype=torch.int64, device=device), rng)

    def update_discriminator(due: Sequence[LazyPenalty]) -> None:
        draw = draw_images()
        found = discriminator_terms(generator, discriminator, task, loss, due, draw, rng)
        torch.stack(list(found.values())).sum().backward()

    def update_generator() -> None:
        with frozen(discriminator):
            found = generator_terms(generator, discriminator, task, loss, draw_images(), terms)
            torch.stack(list(found.values())).sum().backward()

    while (without := timed(lambda: update_discriminator([]))) < _ENOUGH_SECONDS and count < largest:
        count = min(count * _GROWTH, largest)
    extra = sum(max(timed(lambda p=p: update_discriminator([p])) - without, 0.0) / p.interval for p in terms)
    transported, learned = cost
    update = (without + extra) / count  # of one real and one fake image
    per_step = update * config.batch_size * config.discriminator_steps + update / 2 * transported
    return (per_step + timed(update_generator) / count * learned) / processes
