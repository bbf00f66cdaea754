"""Paired comparisons: a bootstrap over seeds and examples, and Holm's correction for the number of comparisons."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
Numbers = NDArray[np.float64]


class Difference(NamedTuple):
    """A paired difference of two methods' mean scores: its 95 % interval and its two-sided p-value."""

    mean: float
    low: float
    high: float
    p: float


def paired_bootstrap(one: Numbers, other: Numbers, weights: Numbers, resamples: int = RESAMPLES) -> Difference:
    """Compare outcomes [seeds, examples] of two methods that ran with the same seeds on the same examples.

    Each resample draws seeds and examples with replacement, for both methods the same ones, and compares their means
    weighted by `weights` [examples]. The p-value is twice the share of resamples whose difference has the other sign or
    is zero, at most 1; it cannot be smaller than 2 / (resamples + 1).
    """
    difference = one - other
    seeds, examples = difference.shape
    rng = np.random.default_rng(0)
    rows = rng.multinomial(seeds, [1 / seeds] * seeds, size=resamples)
    columns = rng.multinomial(examples, [1 / examples] * examples, size=resamples) * weights
    drawn = ((rows @ difference) * columns).sum(axis=1) / (seeds * columns.sum(axis=1))
    low, high = np.quantile(drawn, [0.025, 0.975])
    below, above = int((drawn <= 0).sum()), int((drawn >= 0).sum())
    p = min(1.0, 2 * (min(below, above) + 1) / (resamples + 1))
    mean = float((difference @ weights).sum() / (seeds * weights.sum()))
    return Difference(mean, float(low), float(high), p)


def holm(values: Sequence[float], planned: int) -> list[float]:
    """Return p-values corrected for `planned` comparisons, of which those not made yet count as without an effect."""
    order = sorted(range(len(values)), key=values.__getitem__)
    corrected = [1.0] * len(values)
    highest = 0.0
    for place, number in enumerate(order):
        highest = max(highest, min(1.0, (planned - place) * values[number]))
        corrected[number] = highest
    return corrected
