"""The statistics of the benchmarks: medians over rounds and ratios of medians."""

from benchmarks.yardstick.contenders.contender import Series
from benchmarks.yardstick.results.spread import median_of, ratio, tail_ratio


def series(*rounds: list[float], failure: str | None = None) -> Series:
    return Series(name="x", rounds=list(rounds), failure=failure)


def test_a_median_is_over_rounds_so_a_round_of_many_values_counts_once() -> None:
    assert median_of(series([1.0], [2.0], [9.0, 9.0, 9.0, 9.0])) == 2


def test_a_ratio_is_that_of_the_medians() -> None:
    assert ratio(series([4.0], [6.0], [100.0]), series([3.0], [1.0], [2.0])) == 3


def test_the_ratio_of_the_tails_is_over_all_values_of_all_rounds() -> None:
    assert tail_ratio(series([1.0, 1.0], [1.0, 8.0]), series([1.0], [2.0, 4.0]), 100) == 2


def test_there_is_no_ratio_where_one_side_did_not_run() -> None:
    assert ratio(None, series([1.0])) is None
    assert tail_ratio(series([1.0]), None, 99) is None
