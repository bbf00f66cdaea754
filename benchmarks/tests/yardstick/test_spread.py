"""The statistics of the benchmarks: percentiles, medians over rounds and ratios of medians."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.yardstick.contender import Series
from benchmarks.yardstick.spread import median_of, percentile, ratio, tail_ratio

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)


def series(*rounds: list[float], failure: str | None = None) -> Series:
    return Series(name="x", rounds=list(rounds), failure=failure)


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


def test_a_median_is_over_rounds_so_a_round_of_many_values_counts_once() -> None:
    assert median_of(series([1.0], [2.0], [9.0, 9.0, 9.0, 9.0])) == 2


def test_a_ratio_is_that_of_the_medians() -> None:
    assert ratio(series([4.0], [6.0], [100.0]), series([3.0], [1.0], [2.0])) == 3


def test_the_ratio_of_the_tails_is_over_all_values_of_all_rounds() -> None:
    assert tail_ratio(series([1.0, 1.0], [1.0, 8.0]), series([1.0], [2.0, 4.0]), 100) == 2


def test_there_is_no_ratio_where_one_side_did_not_run() -> None:
    assert ratio(None, series([1.0])) is None
    assert tail_ratio(series([1.0]), None, 99) is None
