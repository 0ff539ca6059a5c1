"""Runs the steps: first what is not timed, such as memory and arithmetic, then rounds in which each is timed once."""

import math
import os
import random
import statistics
import timeit
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves
from torch.utils.benchmark import timer  # a clock that waits until the device has done all it was given
from torch.utils.flop_counter import FlopCounterMode, _FlopCounterMode
from tqdm.auto import tqdm

from ..errors import InputError
from ..machine import device_name, processor_name, versions
from ..text import one_line
from ..training.context import StepContext
from .catalogue import BASELINE, MEMORY
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


def count_flops(step: Callable[[], Any]) -> int:
    """Operations of an uncompiled step: its convolutions and matrix products, two for a product and a sum."""
    counter = FlopCounterMode(display=False)
    with _FlopCounterMode(counter):  # by itself: the hooks around it fail in a double backward
        step()
    return counter.get_total_flops()


def peak_bytes(step: Callable[[], Any], device: torch.device) -> int | None:
    """The most bytes that a step holds at once beyond what was allocated before it; None where nothing can tell.

    The step runs once, much slower than otherwise. Drop old gradients first: on the CPU nobody sees their release.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        return None
    with _silent_stderr(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    profiler: Any = recorded.profiler
    events = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate((event.nbytes() for event in sorted(events, key=lambda one: one.start_ns())), initial=0))


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """The profiler's library writes lines to the process's stderr that no setting turns off."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def resident_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of tensors, each storage counted once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def protocol(device: torch.device, **about: Any) -> dict[str, Any]:
    """On what, by what and when, and what else is said."""
    return {
        "device": device_name(device),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "tf32": torch.get_float32_matmul_precision() != "highest",
        "versions": versions(("licfg_hf", "torch", "accelerate", "diffusers", "numpy")),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "memory": MEMORY.get(device.type),
        **about,
    }
