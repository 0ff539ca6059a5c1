"""The announcement of a training: what it will do, and how long it may take, measured on some images."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from ..errors import is_lack_of_memory
from ..machine import device_name, usable_cores
from ..objective.critic import frozen
from ..objective.term import LazyPenalty, in_words
from ..text import first_line
from .checks import memory_advice
from .context import StepContext
from .progress import duration
from .step import discriminator_terms, generator_terms
from .tasks import MicroBatch, Shape
from .untouched import untouched

if TYPE_CHECKING:
    from .trainer import Trainer

_LONG_RUN_SECONDS = 24 * 3600
# An update is timed on so many images; on more, up to the whole micro-batch, while it takes less than the seconds:
# then the images do not fill the device, or what a call costs by itself weighs too much.
_FEWEST_IMAGES, _GROWTH = 4, 4
_ENOUGH_SECONDS = 0.1


def announce(trainer: "Trainer") -> None:
    """Prints networks, images, batch, loss and terms of a run, and what its dry check found."""
    config, accelerator, networks = trainer.config, trainer.accelerator, (trainer.generator, trainer.discriminator)
    sizes = [sum(parameter.numel() for parameter in network.parameters()) for network in networks]
    begin = f"from {trainer.run.resume_from or config.init_from or 'scratch'}"
    terms = ", ".join(map(str, trainer.terms)) or "no penalty"
    accelerator.print(
        f"training {begin} to step {config.max_steps} on {device_name(trainer.device)}, "
        f"{accelerator.num_processes} process(es) of {torch.get_num_threads()} thread(s)\n"
        f"  generator {sizes[0]:,} parameters, discriminator {sizes[1]:,}; "
        f"{len(trainer.images):,} images of {trainer.images.shape[2]}x{trainer.images.shape[1]}\n"
        f"  batch {config.batch_size} = {trainer.micro_batch_size} images x {config.gradient_accumulation_steps} "
        f"micro-batch(es) x {accelerator.num_processes} process(es)\n"
        f"  {trainer.loss}, {terms}, generator: {in_words(trainer.generator_step)}"
    )
    notes, used, cores = [*trainer.notes], accelerator.num_processes * torch.get_num_threads(), usable_cores()
    if (cost := trainer.generator_step.describe(config)) is not None:
        notes.append(cost)
    if trainer.device.type == "cpu" and used < cores:
        faster = f"accelerate launch --num_cpu_threads_per_process {cores}"
        notes.append(f"{used} of {cores} cores used; for large networks {faster} is faster")
    if trainer.evaluation is not None and accelerator.is_main_process:
        notes += trainer.evaluation.by_the_protocol(trainer)
    for line in notes:
        accelerator.print(f"  {line}")


def announce_long_run(trainer: "Trainer") -> None:
    """Says how long the run will take here, where that is more than a day; a failure of the estimate ends no run."""
    cost = trainer.generator_step.cost_per_step(trainer.config)
    try:
        with untouched(trainer.generator, trainer.discriminator):
            per_step = seconds_per_step(trainer.context, trainer.images.shape, cost)
    except Exception as error:
        reason = memory_advice(trainer) if is_lack_of_memory(error) else f"{type(error).__name__}: {first_line(error)}"
        trainer.accelerator.print(f"NOTE: the time that this run will take could not be estimated: {reason}")
        return
    total = per_step * trainer.config.max_steps
    if total > _LONG_RUN_SECONDS:
        trainer.accelerator.print(
            f"NOTE: on {device_name(trainer.device)} this run will take about {duration(total)}, estimated from a "
            f"probe of {duration(per_step)} per step. For a first picture in minutes: --preset quickstart"
        )


def seconds_per_step(context: StepContext, shape: Shape, cost: tuple[float, float]) -> float:
    """Estimated seconds per training step, from one timed update of each network, whose gradients and buffers change.

    The updates are those of the run, but for a compiler and the exchange between processes.

    Args:
        cost: see ``GeneratorStep.cost_per_step``.
    """
    config, task, terms, device = context.config, context.task, context.terms, context.accelerator.device
    played = (context.generator, context.opponent, task, context.loss)
    rng = torch.Generator(device).manual_seed(0)
    synchronize = torch.get_device_module(device).synchronize
    largest = context.micro_batch_size
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
        found = discriminator_terms(*played, due, draw_images(), rng)
        torch.stack(list(found.values())).sum().backward()

    def update_generator() -> None:
        with frozen(context.discriminator):
            found = generator_terms(*played, draw_images(), terms)
            torch.stack(list(found.values())).sum().backward()

    while (without := timed(lambda: update_discriminator([]))) < _ENOUGH_SECONDS and count < largest:
        count = min(count * _GROWTH, largest)
    extra = sum(max(timed(lambda p=p: update_discriminator([p])) - without, 0.0) / p.interval for p in terms)
    transported, learned = cost
    update = (without + extra) / count  # of one real and one fake image
    per_step = update * config.batch_size * config.discriminator_steps + update / 2 * transported
    return (per_step + timed(update_generator) / count * learned) / context.accelerator.num_processes
