"""Runs the steps: first what is not timed, then rounds in which every step is timed once."""

import math
import random
import statistics
import timeit
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch.utils._pytree import tree_leaves
from torch.utils.benchmark import timer  # a clock that waits until the device has done all it was given
from tqdm.auto import tqdm

from ..errors import InputError
from ..text import one_line
from ..training.context import StepContext
from .catalogue import BASELINE
from .cost import count_flops, peak_bytes, resident_bytes
from .steps import SharedParts, steps_of

_LEAST_SECONDS = 0.05  # of a timed run: a step that takes less is repeated
_BAR: dict[str, Any] = {"disable": None, "leave": False}  # of progress
Key = TypeVar("Key")


def seconds(step: Callable[[], Any], repeats: int = 1, clock: Callable[[], float] = timer) -> float:
    """Mean time of a few steps in a row, without garbage collection; benchmark.Timer would run two more each time."""
    return timeit.Timer(step, timer=clock).timeit(repeats) / repeats


def interleaved(
    steps: Mapping[Key, tuple[Callable[[], Any], int]], rounds: int, clock: Callable[[], float] = timer
) -> Iterator[dict[Key, float]]:
    """Times every step in every round, in an order that is drawn anew, so that what slows a machine slows all.

    ``steps`` says how often each runs in a round; the first round, which warms up, is not among the results.
    """
    rng, order = random.Random(0), list(steps)
    for number in range(rounds + 1):
        rng.shuffle(order)
        times = {key: seconds(*steps[key], clock) for key in order}
        if number:
            yield times


def measure(
    shared: SharedParts, techniques: Sequence[str], steps: Sequence[str], rounds: int, compiled: bool
) -> list[dict]:
    """A row for each step of each technique, compiled too where that is asked for, as they stand in ``bench.json``."""
    wanted = [(name, mode) for mode in ((False, True) if compiled else (False,)) for name in techniques]
    limits = {"recompile_limit": 8 * len(wanted), "accumulated_recompile_limit": 64 * len(wanted)}
    with torch._dynamo.config.patch(limits) if compiled else nullcontext():  # all compile the same functions
        tried = [one for which in tqdm(wanted, "preparing", **_BAR) for one in _tried(shared, *which, steps)]
        rows = [row for row, _ in tried]
        runs = {index: (run, row["steps_per_time"]) for index, (row, run) in enumerate(tried) if run is not None}
        for times in tqdm(interleaved(runs, rounds), "timing", rounds, **_BAR):
            for index, value in times.items():
                rows[index]["times"].append(value)
    return [compared(row, rows) for row in rows]


def _tried(
    shared: SharedParts, technique: str, compiled: bool, steps: Sequence[str]
) -> Iterator[tuple[dict[str, Any], Callable[[], Any] | None]]:
    """(what is known of a step before it is timed, the step itself), or the problem and None."""
    prepared = None
    for name in steps:
        row = {"step": name, "technique": technique, "compiled": compiled}
        try:
            context, runs = prepared = prepared or steps_of(shared, technique, compiled)
            yield row | _costs(shared, context, runs[name]), runs[name]
        except Exception as error:  # whatever it is, the others can still be measured
            problem = "out of memory" if isinstance(error, torch.OutOfMemoryError) else one_line(error, 200)
            if technique == BASELINE and not compiled:
                raise InputError(f"the steps cannot be run at all: {problem}") from error
            prepared = None  # steps that cannot be compiled would go on without
            yield {**row, "problem": problem}, None


def _costs(shared: SharedParts, context: StepContext, step: Callable[[], Any]) -> dict[str, Any]:
    first, second = seconds(step), seconds(step)
    _forget_gradients(context)
    flops = None if context.config.torch_compile else count_flops(step)
    _forget_gradients(context)
    peak = peak_bytes(step, shared.device)
    # What a training holds between steps.
    held = (context.generator, context.discriminator, context.generator_optimizer, context.discriminator_optimizer)
    states = tree_leaves([part.state_dict() for part in (*held, shared.average)])
    return {
        "compile_seconds": max(first - second, 0.0),
        "flops": flops,
        "peak_bytes": peak,
        "resident_bytes": resident_bytes(value for value in states if isinstance(value, torch.Tensor)),
        "times": [],
        "steps_per_time": max(1, math.ceil(_LEAST_SECONDS / max(second, 1e-6))),
    }


def _forget_gradients(context: StepContext) -> None:
    """As before the first step, so that they count among the memory that a step allocates."""
    context.generator_optimizer.zero_grad()
    context.discriminator_optimizer.zero_grad()


def compared(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A row with its medians, and with its ratios to the uncompiled baseline and to the baseline of its own mode."""
    if "problem" in row:
        return row
    found = row | {"seconds": spread(row["times"])}
    for other in rows:
        if (other["step"], other["technique"]) != (row["step"], BASELINE) or "problem" in other:
            continue
        ratios = spread([one / none for one, none in zip(row["times"], other["times"], strict=True)])
        if other["compiled"]:
            found |= {"ratio_to_compiled": ratios} if row["compiled"] else {}
            continue
        found["ratio"] = ratios
        for cost in ("flops", "peak_bytes"):
            known = row[cost] is not None and other[cost]
            found[f"{cost}_ratio"] = row[cost] / other[cost] if known else None
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median and the quartiles of at least one value."""
    if not values:
        raise ValueError("there is no median of no values")
    low, middle, high = statistics.quantiles([*values] * 2 if len(values) == 1 else values, method="inclusive")
    return {"median": middle, "low": low, "high": high}
