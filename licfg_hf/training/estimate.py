"""How long a step will take here, measured on a few images before the training begins."""

import time
from collections.abc import Sequence

import torch
from torch import nn

from ..losses import AdversarialLoss
from .config import TrainingConfig
from .steps import LazyPenalty, Task, discriminator_terms, frozen, generator_terms

_PROBE_IMAGES = 4


def seconds_per_step(
    generator: nn.Module,
    discriminator: nn.Module,
    task: Task,
    loss: AdversarialLoss,
    penalties: Sequence[LazyPenalty],
    shape: tuple[int, int, int],
    config: TrainingConfig,
    load: tuple[float, float],
    processes: int,
    device: torch.device,
) -> float:
    """Estimated seconds per training step, from one timed update of each network on a few images.

    On an accelerator the few images do not fill it, so the estimate is too high there.

    Args:
        generator: a copy that may be altered.
        discriminator: likewise.
        shape: (channels, height, width) of an image.
        load: images per step that pass the discriminator outside its updates, and images of generator updates.
    """
    generator.to(device)
    discriminator.to(device)
    rng = torch.Generator(device).manual_seed(0)
    images = torch.rand(_PROBE_IMAGES, *shape, generator=rng, device=device) * 2 - 1
    labels = torch.zeros(_PROBE_IMAGES, dtype=torch.int64, device=device)

    def timed(compute) -> float:
        compute()  # the first call also pays for allocations
        began = time.perf_counter()
        compute()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    def update_discriminator(due: Sequence[LazyPenalty]) -> None:
        draw = task.draw(images, labels, rng)
        sum(discriminator_terms(generator, discriminator, task, loss, due, draw, rng).values()).backward()

    def update_generator() -> None:
        with frozen(discriminator):
            draw = task.draw(images, labels, rng)
            sum(generator_terms(generator, discriminator, task, loss, draw, penalties).values()).backward()

    without = timed(lambda: update_discriminator([]))
    extra = sum(max(timed(lambda p=p: update_discriminator([p])) - without, 0.0) / p.interval for p in penalties)
    transported, learned = load
    update = (without + extra) / _PROBE_IMAGES  # of one real and one fake image
    per_step = update * config.batch_size * config.discriminator_steps + update / 2 * transported
    return (per_step + timed(update_generator) / _PROBE_IMAGES * learned) / processes
