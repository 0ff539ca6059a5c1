"""The announcement of a training: what it will do, and how long it may take."""

from typing import TYPE_CHECKING

import torch

from ..machine import device_name, usable_cores
from ..objective.term import in_words
from .estimate import seconds_per_step
from .progress import duration
from .untouched import untouched

if TYPE_CHECKING:
    from .trainer import Trainer

_LONG_RUN_SECONDS = 24 * 3600


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
    for line in (*trainer.notes, trainer.generator_step.describe(config), _unused_cores(trainer)):
        if line is not None:
            accelerator.print(f"  {line}")


def _unused_cores(trainer: "Trainer") -> str | None:
    used, cores = trainer.accelerator.num_processes * torch.get_num_threads(), usable_cores()
    if trainer.device.type != "cpu" or used >= cores:
        return None
    return (
        f"{used} of {cores} cores used; for large networks accelerate launch --num_cpu_threads_per_process {cores} "
        "is faster"
    )


def announce_long_run(trainer: "Trainer") -> None:
    """Says how long the run will take here, where that is more than a day."""
    with untouched(trainer.generator, trainer.discriminator):
        per_step = seconds_per_step(
            trainer.generator,
            trainer.discriminator,
            trainer.task,
            trainer.loss,
            trainer.terms,
            trainer.images.shape,
            trainer.config,
            trainer.generator_step.cost_per_step(trainer.config),
            trainer.accelerator.num_processes,
            trainer.device,
        )
    total = per_step * trainer.config.max_steps
    if total > _LONG_RUN_SECONDS:
        trainer.accelerator.print(
            f"NOTE: on {device_name(trainer.device)} this run will take about {duration(total)}, estimated from a "
            f"probe of {duration(per_step)} per step. For a first picture in minutes: --preset quickstart"
        )
