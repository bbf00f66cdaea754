"""Percentiles, by linear interpolation."""

from collections.abc import Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the percentile by linear interpolation between the two nearest values.

    Raises:
        ValueError: there are no values, or the percentile is not within 0 to 100.
    """
    if not values or not 0 <= percent <= 100:
        raise ValueError(f"no percentile {percent} of {len(values)} values")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Return the median and the highest percentiles of latencies by name, in milliseconds."""
    return {f"p{percent}": round(percentile(seconds, percent) * 1000, 2) for percent in (50, 95, 99)}
