"""Percentiles by linear interpolation."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.percentile import milliseconds, percentile

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)


@given(VALUES)
def test_the_fiftieth_percentile_is_the_median_and_the_ends_are_the_extremes(values: list[float]) -> None:
    assert percentile(values, 50) == pytest.approx(statistics.median(values))
    assert (percentile(values, 0), percentile(values, 100)) == (min(values), max(values))


@given(VALUES, st.floats(0, 100), st.floats(0, 100))
def test_a_higher_percentile_is_never_a_smaller_value(values: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert percentile(values, low) <= percentile(values, high) + 1e-6


def test_a_percentile_lies_between_the_two_nearest_values() -> None:
    assert percentile([10.0, 40.0, 20.0, 30.0], 25) == 17.5
    assert percentile([1.0] * 99 + [100.0], 99) == pytest.approx(1.99)


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], -1), ([1.0], 101)])
def test_a_percentile_of_nothing_or_beyond_the_ends_is_refused(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile(values, percent)


def test_percentiles_of_latencies_are_in_milliseconds() -> None:
    assert milliseconds([0.1] * 100) == {"p50": 100.0, "p95": 100.0, "p99": 100.0}
