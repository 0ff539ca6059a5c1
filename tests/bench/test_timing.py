"""Timing on clocks that are known, and the statistics of what was timed."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licfg_hf.bench.measure import compared, interleaved, seconds, spread

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
    steps = {"none": (machine.step("none", 2.0), 1), "penalty": (machine.step("penalty", 5.0), 1)}
    times = []
    for row in interleaved(steps, 5, machine.clock):
        times.append(row)
        machine.slowness *= 1.7
    costs = {"step": "generator", "compiled": False, "flops": None, "peak_bytes": 3}
    rows = [{**costs, "technique": name, "times": [row[name] for row in times]} for name in steps]
    found = compared(rows[1], rows)
    assert found["ratio"] == pytest.approx({"median": 2.5, "low": 2.5, "high": 2.5})
    assert found["flops_ratio"] is None and found["peak_bytes_ratio"] == 1
    assert len({row["none"] for row in times}) == 5


def test_every_round_has_every_step_once_after_a_warm_up_in_changing_order():
    machine = Machine()
    steps = {name: (machine.step(name, 1.0), 1) for name in "abcd"}
    rows = list(interleaved(steps, 6, machine.clock))
    orders = [tuple(machine.order[start : start + 4]) for start in range(0, 28, 4)]
    assert len(rows) == 6 and all(sorted(row) == list("abcd") for row in rows)
    assert len(machine.order) == 28 and all(sorted(order) == list("abcd") for order in orders)
    assert len(set(orders)) > 3


def test_short_steps_are_repeated_and_their_time_is_that_of_one():
    machine = Machine()
    steps = {"short": (machine.step("short", 1.0), 5), "long": (machine.step("long", 8.0), 1)}
    (row,) = interleaved(steps, 1, machine.clock)
    assert row == {"short": 1.0, "long": 8.0}
    assert Counter(machine.order) == {"short": 10, "long": 2}
    assert seconds(machine.step("one", 3.0), 4, machine.clock) == pytest.approx(3.0)


@given(VALUES, st.randoms())
def test_the_median_does_not_depend_on_the_order_of_the_rounds(values, shuffler):
    before = spread(values)
    shuffler.shuffle(values)
    assert spread(values) == before


@given(VALUES)
def test_the_quartiles_enclose_the_median(values):
    found = spread(values)
    assert min(values) <= found["low"] <= found["median"] <= found["high"] <= max(values)


def test_the_quartiles_of_known_values():
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == {"median": 3.0, "low": 2.0, "high": 4.0}
    assert spread([7.0]) == {"median": 7.0, "low": 7.0, "high": 7.0}
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_times_of_different_rounds_are_refused():
    row = {"step": "generator", "technique": "none", "compiled": False, "flops": 1, "peak_bytes": 1}
    with pytest.raises(ValueError):
        compared({**row, "times": [1.0, 2.0]}, [{**row, "times": [1.0]}])
