"""What the ``Trainer`` adds to the steps: its time per step against that of a bare loop, and the growth of memory.

The two are run in turn, a block of steps each, inside one training: the trainer takes its images from a loader that
runs the bare loops whenever a block of the trainer's steps is over.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..data import DataConfig, open_images
from ..data.loader import StepImages, StepLoader
from ..errors import TrainingInterrupted
from ..images import from_pixels
from ..objective.critic import frozen
from ..objective.weights import power_iterated_once
from ..training import Trainer, TrainingConfig
from ..training.context import Terms
from ..training.optimizers import make_optimizer
from ..training.step import discriminator_terms, generator_terms
from .cases import Setting, build_discriminator, build_generator, objective_of, optimizer_config, setting_from
from .catalogue import MODELS, parse
from .report import interval_text, protocol, write_tables
from .timing import median_with_interval, ratios, seconds, synchronize

_BLOCKS = 20  # of timed steps; each gives one ratio
_NEVER = 10**9  # steps
_QUICKSTART_BATCH = 64
_PENALTY = {"quickstart": "spectral+eps"}  # as in its recipe's preset; others have the penalty alone
BARE, AVERAGED, TRAINER = "bare", "bare with the moving average", "trainer"


@dataclass
class Overhead:
    """Times of one network's blocks.

    Attributes:
        network: its name.
        batch_size: images of an update.
        block: steps of a block.
        times: of each loop, seconds of each block, per step.
        resident: resident memory of the process in bytes after each block.
    """

    network: str
    batch_size: int
    block: int
    times: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in (BARE, AVERAGED, TRAINER)})
    resident: list[int] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        blocks, third = len(self.resident), -(-len(self.resident) // 3)
        # Single readings vary by what the allocator has not given back yet; medians tell growth from that.
        early, late = (statistics.median(part) for part in (self.resident[:third], self.resident[-third:]))
        return {
            "network": self.network,
            "batch_size": self.batch_size,
            "steps_of_a_block": self.block,
            "blocks": blocks,
            "seconds_per_step": {name: median_with_interval(times).as_dict() for name, times in self.times.items()},
            "ratio": {
                name: median_with_interval(ratios(self.times[TRAINER], self.times[name])).as_dict()
                for name in (BARE, AVERAGED)
            },
            "resident_growth_bytes": late - early,
            "resident_growth_steps": (blocks - third) * self.block,
            "resident_range_bytes": max(self.resident) - min(self.resident),
            "times": self.times,
            "resident_bytes": self.resident,
        }


class BareLoop:
    """The steps of a training written out by hand: same data access, same losses, and nothing else.

    Args:
        setting: networks and batch.
        technique: of the discriminator.
        loader: images of each step.
    """

    def __init__(self, setting: Setting, technique: str, loader: StepLoader):
        model, self.loader, self.step = setting.model, loader, 0
        objective = objective_of(model, parse(technique)[-1])
        torch.manual_seed(setting.seed)
        channels = loader.images.shape[0]
        self.generator, self.task = build_generator(model, channels)
        self.discriminator = build_discriminator(model, channels, objective)
        self.loss, self.penalties = objective.build()
        self.optimizers = [
            make_optimizer(optimizer_config(model, player), network.train())
            for player, network in enumerate((self.generator, self.discriminator))
        ]
        self.average = AveragedModel(self.generator, multi_avg_fn=get_ema_multi_avg_fn(model.ema_decay))
        self.device = torch.device(setting.device)
        self.average.to(self.device).requires_grad_(False)
        for network in (self.generator, self.discriminator):
            network.to(self.device, memory_format=torch.channels_last)
        self.rng = torch.Generator(self.device).manual_seed(setting.seed)

    def run(self, steps: int, average: bool) -> None:
        """Takes steps.

        Args:
            average: update the averaged generator, too.
        """
        for images in self.loader.steps(self.step, self.step + steps):
            self._step(images)
            if average:
                self.average.update_parameters(self.generator)
        self.step += steps

    def _step(self, images: StepImages) -> None:
        networks = (self.generator, self.discriminator, self.task, self.loss)
        for pixels, labels in images.discriminator:
            draw = self.task.draw(from_pixels(pixels), labels, self.rng)
            with power_iterated_once(self.discriminator):
                self._update(1, lambda draw=draw: discriminator_terms(*networks, self.penalties, draw))
        pixels, labels = images.generator
        draw = self.task.draw(from_pixels(pixels), labels, self.rng)
        with frozen(self.discriminator), power_iterated_once(self.discriminator):
            self._update(0, lambda: generator_terms(*networks, draw, self.penalties))

    def _update(self, player: int, terms: Callable[[], Terms]) -> None:
        self.optimizers[player].zero_grad(set_to_none=True)
        sum(value for value in terms().values() if value.requires_grad).backward()
        self.optimizers[player].step()


class _Blocks:
    """Hands the trainer its images, times its blocks, and runs and times the bare loops between them.

    The first block warms up; the steps after the last one, with which the trainer ends, count nowhere.
    """

    def __init__(self, loader: StepLoader, bare: BareLoop, found: Overhead, device: torch.device):
        self.loader, self.bare, self.found, self.device = loader, bare, found, device
        self.order = random.Random(0)

    def steps(self, first: int, last: int) -> Iterator[StepImages]:
        """The images of steps ``first`` .. ``last - 1``."""
        block, images = self.found.block, self.loader.steps(first, last)
        for number in range(_BLOCKS + 1):
            synchronize(self.device)
            began = time.perf_counter()
            for _ in range(block):
                yield next(images)
            synchronize(self.device)
            took = {TRAINER: time.perf_counter() - began}
            for name in self.order.sample((BARE, AVERAGED), 2):
                took[name] = seconds(lambda name=name: self.bare.run(block, name == AVERAGED), self.device)
            if number:
                self._keep(took)
        yield from images

    def _keep(self, took: Mapping[str, float]) -> None:
        for name, times in self.found.times.items():
            times.append(took[name] / self.found.block)
        self.found.resident.append(psutil.Process().memory_info().rss)


def measure(name: str, setting: Setting, steps: int) -> Overhead:
    """Trains on the digits and measures on the way.

    Args:
        name: of the networks.
        setting: networks, batch and device.
        steps: of the trainer that are timed; the bare loops take as many each.

    Raises:
        TrainingInterrupted: a signal came; its attribute ``found`` holds what was measured until then.
        InputError: the batch does not fit.
    """
    model, technique = setting.model, _PENALTY.get(name, "eps")
    found = Overhead(name, setting.batch_size, max(1, steps // _BLOCKS))
    device = setting.accelerator().device  # the trainer's own is then of this device
    images = open_images(DataConfig(data="digits", image_size=model.size), progress=False)
    torch.manual_seed(setting.seed)
    objective = objective_of(model, parse(technique)[-1])
    generator, task = build_generator(model, images.shape[0])
    discriminator = build_discriminator(model, images.shape[0], objective)
    loss, penalties = objective.build()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        config = _config(setting, found.block * (_BLOCKS + 1) + 1, folder)
        trainer = Trainer(config, generator, discriminator, images, task, loss, penalties)
        trainer.loader = _Blocks(trainer.loader, BareLoop(setting, technique, trainer.loader), found, device)
        try:
            trainer.train()
        except TrainingInterrupted as stop:
            stop.found = found
            raise
    return found


def _config(setting: Setting, steps: int, folder: str) -> TrainingConfig:
    """A training that logs as by default, and writes neither checkpoints nor samples before its end."""
    model = setting.model
    return TrainingConfig(
        output_dir=f"{folder}/training",
        max_steps=steps,
        batch_size=setting.batch_size,
        generator_batch_size=setting.batch_size * model.generator_batches,
        discriminator_steps=model.discriminator_steps,
        generator_optimizer=optimizer_config(model, 0),
        discriminator_optimizer=optimizer_config(model, 1),
        ema_decay=model.ema_decay,
        checkpoint_every=_NEVER,
        sample_every=None,
    )


def run_from(arguments: argparse.Namespace, folder: Path) -> None:
    """Measures ``quickstart`` and the model that was asked for, prints the table and writes it.

    Raises:
        InputError: the folder cannot be written, or the batch does not fit.
    """
    asked, found, stopped = setting_from(arguments), [], None
    plan = [("quickstart", replace(asked, model=MODELS["quickstart"], batch_size=_QUICKSTART_BATCH), 1)]
    if arguments.model != "quickstart":
        plan.append((arguments.model, asked, 10))
    for name, setting, divisor in plan:
        try:
            found.append(measure(name, setting, arguments.steps_of_trainer // divisor))
        except TrainingInterrupted as stop:
            found, stopped = [*found, stop.found], stop
            break
    found = [one for one in found if one.resident]
    if found:
        result = {"protocol": _protocol(asked), "results": [one.as_dict() for one in found]}
        write_tables(result, markdown(result), folder, "overhead")
        if stopped is None:
            print(markdown(result) + f"\nin {folder}")
    if stopped is not None:
        kept = f"the blocks that were done are in {folder}" if found else "nothing was measured"
        print(f"stopped; {kept}", file=sys.stderr)
        sys.exit(stopped.exit_code)


def _protocol(setting: Setting) -> dict[str, Any]:
    about = {
        "data": "the embedded digits, brought to the network's size, in memory",
        "dtype": setting.dtype,
        "trainer": "Trainer.train() with its defaults for logging, the moving average and the progress bar; no "
        "checkpoints, samples or evaluations between the first timed step and the last",
        "bare": "the same steps and access to the data, written out by hand",
        "order": "a block of steps of each loop in turn, in one process, after a block of each that is not counted",
        "statistic": "median over the blocks of the trainer's time / the bare loop's of the same turn",
        "interval": "order statistics that enclose the true median with at least 95 %",
        "memory": "of the process, resident, after each turn: median of the last third less that of the first; range",
    }
    return {**protocol(torch.device(setting.device)), **about}


def markdown(result: Mapping[str, Any]) -> str:
    """The table, and under it what it was measured on."""
    lines = [
        "| network | batch | trainer, ms per step | bare loop, ms | trainer / bare loop | trainer / bare loop with "
        "the moving average | growth of the process's memory |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["results"]:
        trainer, bare = (1000 * row["seconds_per_step"][name]["median"] for name in (TRAINER, BARE))
        growth, spread = (row[f"resident_{name}_bytes"] / 2**20 for name in ("growth", "range"))
        memory = f"{growth:.1f} MiB in {row['resident_growth_steps']} steps of each loop (varies by {spread:.1f})"
        both = " | ".join(interval_text(row["ratio"][name], digits=3) for name in (BARE, AVERAGED))
        lines.append(f"| {row['network']} | {row['batch_size']} | {trainer:.4g} | {bare:.4g} | {both} | {memory} |")
    about = result["protocol"]
    lines += [
        "",
        f"{about['device']}, {about['processor']}, {about['threads']} thread(s), torch {about['versions']['torch']}, "
        f"licfg_hf {about['versions']['licfg_hf']}, {about['date']}; medians over blocks of steps in turn, 95 % "
        "intervals of the median in brackets.",
    ]
    return "\n".join(lines) + "\n"
