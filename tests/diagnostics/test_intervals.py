import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licfg_hf.diagnostics.intervals import mean_interval, student_quantile, welch


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [
        (1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (10, 2.228), (11, 2.201), (29, 2.045),
        (30, 2.042), (100, 1.984), (1000, 1.962), (1001, 1.962),
    ],
)  # fmt: skip
def test_quantiles_are_those_of_the_tables(freedom, quantile):
    assert student_quantile(freedom) == pytest.approx(quantile, abs=5.1e-4)


def test_quantiles_have_closed_forms_for_one_and_two_degrees_of_freedom():
    assert student_quantile(1) == pytest.approx(math.tan(0.95 * math.pi / 2), rel=1e-12)
    assert student_quantile(2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), rel=1e-12)


def test_interval_of_a_mean():
    mean, half = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.303 / math.sqrt(3), rel=1e-4)
    mean, half = mean_interval([float(value) for value in range(12)])
    assert mean == 5.5 and half == pytest.approx(2.201 * math.sqrt(13 / 12), rel=1e-3)  # the variance is 13
    assert mean_interval([3.0, 3.0]) == (3, 0)


def test_one_value_has_no_interval_and_no_value_no_mean():
    mean, half = mean_interval([5.0])
    assert mean == 5 and math.isnan(half)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])
    with pytest.raises(ValueError, match="at least 1"):
        student_quantile(0)


def test_welch_in_closed_form():
    # variances 2 and 8 over two values each: (1 + 4)^2 / (1^2 + 4^2) = 1.47 degrees of freedom
    assert welch([0, 2], [10, 14]) == pytest.approx(student_quantile(1) * math.sqrt(5), rel=1e-12)
    # equal variances and counts: 2 (n - 1) degrees of freedom
    assert welch([1, 2, 3], [5, 6, 7]) == pytest.approx(student_quantile(4) * math.sqrt(2 / 3), rel=1e-12)
    # one variance is zero: the degrees of freedom of the other
    assert welch([1, 1, 1], [1, 2, 3, 4]) == pytest.approx(student_quantile(3) * math.sqrt(5 / 12), rel=1e-12)
    assert welch([1, 1], [3, 3, 3]) == 0


values = st.lists(st.integers(-1000, 1000), min_size=2, max_size=6)


@given(values, values, st.integers(-100, 100))
def test_welch_knows_no_order_and_no_origin(first, second, shift):
    half = welch(first, second)
    assert half >= 0 and welch(second, first) == pytest.approx(half, rel=1e-9)
    assert welch([value + shift for value in first], second) == half
