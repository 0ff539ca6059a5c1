"""The overhead of the ``Trainer``: its time per step against that of a bare loop, and the growth of memory.

The two run in turn, a block of steps each, inside one training: the trainer takes its images from a loader that runs
the bare steps, on the same networks, whenever a block of the trainer's own is over.
"""

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import psutil
from torch.utils.benchmark import timer

import licfg_hf

from ..data.loader import StepImages
from ..training.sampler import random_generator
from ..training.step import train_step
from .cases import build_networks, build_penalties, training_config
from .catalogue import Model
from .measure import seconds, spread

BLOCKS = 20  # of timed steps; each gives one ratio
_NEVER = 10**9  # steps


class _Blocks:
    """The trainer's images, which times its blocks and those of the bare steps between them.

    The first block warms up; the steps after the last one, with which the trainer ends, count nowhere.
    """

    def __init__(self, trainer: Any, block: int):
        self.trainer, self.loader, self.block = trainer, trainer.loader, block
        self.rng = random_generator(trainer.device, trainer.config.seed, "training")
        self.times: dict[str, list[float]] = {"trainer": [], "bare": []}
        self.resident: list[int] = []

    def steps(self, first: int, last: int) -> Iterator[StepImages]:
        """The images of steps ``first`` .. ``last - 1``."""
        images, own = self.loader.steps(first, last), self.loader.steps(first, last)
        for _ in range(BLOCKS + 1):
            began = timer()
            for _ in range(self.block):
                yield next(images)
            self.times["trainer"].append((timer() - began) / self.block)
            self.times["bare"].append(seconds(lambda: self._bare_step(next(own)), self.block))
            self.resident.append(psutil.Process().memory_info().rss)
        yield from images

    def _bare_step(self, images: StepImages) -> None:
        trainer = self.trainer
        train_step(trainer.context, trainer.step, images, trainer.generator_step, self.rng)
        trainer.average.update_parameters(trainer.generator)


def measure(name: str, model: Model, batch_size: int, steps: int) -> dict[str, Any]:
    """Trains on the digits and measures on the way; the row of ``overhead.json``.

    Args:
        steps: of the trainer that are timed; the bare loop takes as many.

    Raises:
        TrainingInterrupted: a signal came.
        InputError: the batch does not fit.
    """
    block, technique = max(1, steps // BLOCKS), "spectral+eps" if name == "quickstart" else "eps"
    images = licfg_hf.open_images(licfg_hf.DataConfig(data="digits", image_size=model.size), progress=False)
    model = Model(**{**vars(model), "channels": images.shape[0]})
    generator, discriminator, task = build_networks(model, technique)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        own = {"output_dir": f"{folder}/training", "checkpoint_every": _NEVER, "sample_every": None}
        config = training_config(model, batch_size, max_steps=block * (BLOCKS + 1) + 1, **own)
        loss, penalties = licfg_hf.get_loss(model.loss), build_penalties(technique)
        trainer: Any = licfg_hf.Trainer(config, generator, discriminator, images, task, loss, penalties)
        trainer.loader = blocks = _Blocks(trainer, block)
        trainer.train()
    times, resident = {loop: values[1:] for loop, values in blocks.times.items()}, blocks.resident[1:]
    third = -(-len(resident) // 3)  # single readings vary by what the allocator has not given back yet
    return {
        "network": name,
        "batch_size": batch_size,
        "steps_of_a_block": block,
        "blocks": len(resident),
        "seconds_per_step": {loop: spread(values) for loop, values in times.items()},
        "ratio": spread([one / other for one, other in zip(*times.values(), strict=True)]),
        "resident_growth_bytes": statistics.median(resident[-third:]) - statistics.median(resident[:third]),
        "resident_growth_steps": (len(resident) - third) * block,
        "times": times,
        "resident_bytes": resident,
    }
