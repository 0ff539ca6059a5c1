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

from ..data.loader import StepImages
from ..training.sampler import random_generator
from ..training.step import train_step
from .catalogue import Model, training_of
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
        trainer.average.update(trainer.generator)


def measure(name: str, model: Model, batch_size: int, steps: int) -> dict[str, Any]:
    """Trains on the digits and times ``steps`` steps of either loop on the way; the row of ``overhead.json``."""
    block = max(1, steps // BLOCKS)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        length = {"max_steps": block * (BLOCKS + 1) + 1, "output_dir": f"{folder}/training"}
        never = {"checkpoint_every": _NEVER, "sample_every": None, "evaluate_samples": None, "standing_batches": None}
        data = {"data": "digits", "image_size": model.image[1], "horizontal_flip": False}
        technique = "spectral+eps" if name == "quickstart" else "eps"
        recipe, options = training_of(model, technique, batch_size, **length, **never, **data)
        trainer: Any = recipe.trainer(options)
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
