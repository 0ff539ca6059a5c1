"""Times of steps that are run in turn, and their medians with intervals."""

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch

Step = Callable[[], Any]
Key = TypeVar("Key", bound=Hashable)
_SHARE = 0.95  # of the cases that an interval is to cover


@dataclass(frozen=True)
class Median:
    """A median with an interval that covers the true one.

    Attributes:
        median: of the values.
        low, high: ends of the interval; None where there are too few values (below 6) for one.
        coverage: probability that the interval covers the median of the distribution, at least 0.95.
    """

    median: float
    low: float | None = None
    high: float | None = None
    coverage: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """For JSON."""
        return asdict(self)


def median_with_interval(values: Sequence[float]) -> Median:
    """The median and the order statistics that enclose the true one with a probability of at least 95 %.

    Nothing is assumed of the distribution: each independent value is below its median with probability 1/2, so the
    number of those that are is binomial.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("there is no median of no values")
    ordered, count = sorted(values), len(values)
    outside, cut = 0.0, 0  # 2 P(Binomial(count, 1/2) < cut), which the interval misses
    while cut < count // 2:
        more = outside + 2 * math.comb(count, cut) / 2**count
        if more > 1 - _SHARE:
            break
        outside, cut = more, cut + 1
    middle = statistics.median(ordered)
    return Median(middle, ordered[cut - 1], ordered[count - cut], 1 - outside) if cut else Median(middle)


def synchronize(device: torch.device) -> None:
    """Waits until an accelerator has done all it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def seconds(
    step: Step, device: torch.device, clock: Callable[[], float] = time.perf_counter, repeats: int = 1
) -> float:
    """Mean time of a few steps in a row, to the end of their work on the device."""
    synchronize(device)
    began = clock()
    for _ in range(repeats):
        step()
    synchronize(device)
    return (clock() - began) / repeats


def interleaved(
    steps: Mapping[Key, Step],
    rounds: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
    seed: int = 0,
    repeats: Mapping[Key, int] | None = None,
) -> Iterator[dict[Key, float]]:
    """Times every step in every round, in an order that is drawn anew, so that what slows a machine slows all.

    Args:
        steps: key -> step.
        rounds: timed rounds, after one that is not.
        device: where the steps work.
        clock: a clock in seconds.
        seed: of the orders.
        repeats: how often a step is run in a round; None runs each once.

    Yields:
        key -> seconds, of a whole round.
    """
    rng, order = random.Random(seed), list(steps)
    repeats = repeats or dict.fromkeys(steps, 1)
    for number in range(rounds + 1):
        rng.shuffle(order)
        gc.collect()
        with _no_garbage_collection():
            times = {key: seconds(steps[key], device, clock, repeats[key]) for key in order}
        if number:
            yield {key: times[key] for key in steps}


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def ratios(times: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Time over the baseline's time of the same round.

    Raises:
        ValueError: they are not of the same rounds.
    """
    return [value / other for value, other in zip(times, baseline, strict=True)]


def averaged(due: Sequence[float], others: Sequence[float], interval: int) -> list[float]:
    """Mean time of a step that does something at every ``interval``-th only, from the times of both kinds of steps."""
    return [(one + (interval - 1) * other) / interval for one, other in zip(due, others, strict=True)]
