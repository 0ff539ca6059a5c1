"""The overhead of the ``Trainer``: its time per step against that of a bare loop, and the growth of memory.

The two run in turn, a block of steps each, inside one training: the trainer takes its images from a loader that runs
the bare steps whenever a block of the trainer's own is over.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import psutil
from accelerate import Accelerator
from torch.utils.benchmark import timer

import licfg_hf

from ..data.loader import StepImages, StepLoader
from .cases import Arena, Case, build_networks, build_penalties, optimizer_config
from .catalogue import Model
from .measure import seconds, spread
from .report import in_words, machine, table

BLOCKS = 20  # of timed steps; each gives one ratio
_NEVER = 10**9  # steps


class _Blocks:
    """The trainer's images, which times its blocks and those of the bare steps between them.

    The first block warms up; the steps after the last one, with which the trainer ends, count nowhere.
    """

    def __init__(self, loader: StepLoader, bare: Callable[[StepImages], None], block: int):
        self.loader, self.bare, self.block = loader, bare, block
        self.trainer: list[float] = []
        self.loop: list[float] = []
        self.resident: list[int] = []

    def steps(self, first: int, last: int) -> Iterator[StepImages]:
        """The images of steps ``first`` .. ``last - 1``."""
        images, own = self.loader.steps(first, last), self.loader.steps(first, last)
        for _ in range(BLOCKS + 1):
            began = timer()
            for _ in range(self.block):
                yield next(images)
            self.trainer.append((timer() - began) / self.block)
            self.loop.append(seconds(lambda: self.bare(next(own)), self.block))
            self.resident.append(psutil.Process().memory_info().rss)
        yield from images


def measure(name: str, model: Model, batch_size: int, steps: int, accelerator: Accelerator) -> dict[str, Any]:
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
    bare = Case(Arena(model, batch_size, accelerator), technique)
    generator, discriminator, task = build_networks(model, technique)
    loss, penalties = licfg_hf.get_loss(model.loss), build_penalties(technique)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        config = licfg_hf.TrainingConfig(
            output_dir=f"{folder}/training",
            max_steps=block * (BLOCKS + 1) + 1,
            batch_size=batch_size,
            generator_batch_size=batch_size * model.generator_batches,
            discriminator_steps=model.discriminator_steps,
            generator_optimizer=optimizer_config(model, 0),
            discriminator_optimizer=optimizer_config(model, 1),
            ema_decay=model.ema_decay,
            checkpoint_every=_NEVER,
            sample_every=None,
        )
        trainer: Any = licfg_hf.Trainer(config, generator, discriminator, images, task, loss, penalties)
        trainer.loader = blocks = _Blocks(trainer.loader, bare.iteration, block)
        trainer.train()
    times = {"trainer": blocks.trainer[1:], "bare": blocks.loop[1:]}
    resident = blocks.resident[1:]
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


def markdown(result: dict[str, Any]) -> str:
    """The table, and under it what it was measured on."""
    columns = ("network", "batch", "trainer, ms per step", "bare loop, ms", "trainer / bare loop", "memory grew by")
    rows = []
    for row in result["results"]:
        times = [f"{1000 * row['seconds_per_step'][loop]['median']:.4g}" for loop in ("trainer", "bare")]
        growth = f"{row['resident_growth_bytes'] / 2**20:.1f} MiB in {row['resident_growth_steps']} steps of each loop"
        rows.append([row["network"], str(row["batch_size"]), *times, in_words(row["ratio"], 3), growth])
    return f"{table(columns, rows)}\n\n{machine(result['protocol'])}; medians over blocks in turn, quartiles.\n"
