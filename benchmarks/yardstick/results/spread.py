"""The few statistics of the benchmarks: medians and ratios of medians. Nothing is dropped or selected."""

import statistics

from benchmarks.yardstick.contenders.contender import Measured, Series
from harness.percentile import percentile


def median_of(series: Series) -> float:
    """Return the median of a contender's rounds, each represented by its own median."""
    return statistics.median(round_medians(series))


def round_medians(series: Series) -> list[float]:
    """Return the median of every round."""
    return [statistics.median(values) for values in series.rounds]


def ratio(over: Series | None, under: Series | None) -> float | None:
    """Return the ratio of two contenders' medians; None if one of them did not run."""
    return None if over is None or under is None else median_of(over) / median_of(under)


def tail_ratio(over: Series | None, under: Series | None, percent: float) -> float | None:
    """Return the ratio of a percentile over all values of all rounds; None if one of the two did not run."""
    if over is None or under is None:
        return None
    return percentile(over.values, percent) / percentile(under.values, percent)


def floor_share(measured: Measured | None, name: str) -> float | None:
    """Return the share of the machine's limit that a contender reaches; None if it did not run or has no floor."""
    series = None if measured is None else measured.find(name)
    if measured is None or series is None or name not in measured.floors:
        return None
    reached, floor = median_of(series), measured.floors[name]
    return floor / reached if measured.unit == "ms" else reached / floor
