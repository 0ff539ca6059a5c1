"""Timing on clocks that are known, and the statistics of what was timed."""

import math
import random
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from licfg_hf.bench.timing import averaged, interleaved, median_with_interval, ratios, seconds

CPU = torch.device("cpu")
VALUES = st.lists(st.floats(min_value=1e-6, max_value=1e6), min_size=1, max_size=60)


class Machine:
    """A clock that steps move on, and whose speed changes from round to round."""

    def __init__(self):
        self.now, self.slowness, self.order = 0.0, 1.0, []

    def clock(self) -> float:
        return self.now

    def step(self, name: str, cost: float):
        def run() -> None:
            self.order.append(name)
            self.now += cost * self.slowness

        return run


def test_ratios_are_exact_on_a_machine_whose_speed_changes_between_rounds():
    machine = Machine()
    steps = {"none": machine.step("none", 2.0), "penalty": machine.step("penalty", 5.0)}
    rows = []
    for row in interleaved(steps, 5, CPU, machine.clock):
        rows.append(row)
        machine.slowness *= 1.7
    found = ratios([row["penalty"] for row in rows], [row["none"] for row in rows])
    assert found == pytest.approx([2.5] * 5)
    assert len({row["none"] for row in rows}) == 5


def test_every_round_has_every_step_once_after_a_warm_up_in_changing_order():
    machine = Machine()
    steps = {name: machine.step(name, 1.0) for name in "abcd"}
    rows = list(interleaved(steps, 6, CPU, machine.clock))
    orders = [tuple(machine.order[start : start + 4]) for start in range(0, 28, 4)]
    assert len(rows) == 6 and all(list(row) == list("abcd") for row in rows)
    assert len(machine.order) == 28 and all(sorted(order) == list("abcd") for order in orders)
    assert len(set(orders)) > 3


def test_short_steps_are_repeated_and_their_time_is_that_of_one():
    machine = Machine()
    steps = {"short": machine.step("short", 1.0), "long": machine.step("long", 8.0)}
    (row,) = interleaved(steps, 1, CPU, machine.clock, repeats={"short": 5, "long": 1})
    assert row == {"short": 1.0, "long": 8.0}
    assert Counter(machine.order) == {"short": 10, "long": 2}
    assert seconds(machine.step("one", 3.0), CPU, machine.clock, repeats=4) == pytest.approx(3.0)


def test_rounds_that_were_finished_are_there_when_a_step_is_interrupted():
    machine, rows = Machine(), []

    def interrupted() -> None:
        if len(machine.order) >= 4:
            raise KeyboardInterrupt
        machine.order.append("x")
        machine.now += 1.0

    with pytest.raises(KeyboardInterrupt):
        for row in interleaved({"x": interrupted}, 10, CPU, machine.clock):
            rows.append(row)
    assert len(rows) == 3


@given(VALUES, st.randoms())
def test_the_median_does_not_depend_on_the_order_of_the_rounds(values, shuffler):
    before = median_with_interval(values)
    shuffler.shuffle(values)
    assert median_with_interval(values) == before


@given(VALUES)
def test_the_interval_encloses_the_median_and_covers_what_it_says(values):
    found = median_with_interval(values)
    if len(values) < 6:
        assert found.low is None and found.high is None and found.coverage is None
        return
    assert min(values) <= found.low <= found.median <= found.high <= max(values)
    assert 0.95 <= found.coverage < 1


@pytest.mark.parametrize("count", [6, 9, 15, 30, 60])
def test_the_interval_is_the_narrowest_pair_of_order_statistics_with_its_coverage(count):
    found = median_with_interval([float(place) for place in range(1, count + 1)])
    cut = int(found.low)
    assert found.high == count + 1 - cut  # symmetric

    def covered(rank: int) -> float:
        return sum(math.comb(count, below) for below in range(rank, count - rank + 1)) / 2**count

    assert found.coverage == pytest.approx(covered(cut))
    assert covered(cut) >= 0.95 > covered(cut + 1)


def test_intervals_of_a_skewed_distribution_cover_its_median_as_often_as_they_say():
    rng, runs = random.Random(0), 2000
    samples = ([rng.expovariate(1.0) for _ in range(15)] for _ in range(runs))
    intervals = [median_with_interval(sample) for sample in samples]
    covered = sum(one.low <= math.log(2) <= one.high for one in intervals) / runs
    expected = intervals[0].coverage
    assert abs(covered - expected) < 4 * math.sqrt(expected * (1 - expected) / runs)


def test_the_cost_of_a_lazy_penalty_is_its_share_of_an_interval():
    assert averaged([20.0, 40.0], [4.0, 8.0], 16) == [5.0, 10.0]
    assert averaged([3.0], [1.0], 1) == [3.0]


def test_times_of_different_rounds_are_refused():
    with pytest.raises(ValueError):
        ratios([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="no values"):
        median_with_interval([])
