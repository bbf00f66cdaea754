"""Random arrivals and choices follow their laws and are repeatable."""

from collections import Counter

import pytest

from benchmarks.yardstick.contenders.arrivals import poisson_arrivals, zipf_choices


def test_poisson_arrivals_ascend_at_the_rate_asked_for_and_repeat() -> None:
    times = poisson_arrivals(5000, rate=4.0, seed=1)
    assert times == sorted(times) == poisson_arrivals(5000, rate=4.0, seed=1)
    assert times[-1] / 5000 == pytest.approx(1 / 4.0, rel=0.05)
    assert times != poisson_arrivals(5000, rate=4.0, seed=2)


def test_zipf_chooses_number_k_in_proportion_to_one_over_k_plus_one() -> None:
    chosen = Counter(zipf_choices(100, 50_000, seed=1))
    assert set(chosen) <= set(range(100))
    assert chosen[0] / chosen[1] == pytest.approx(2, rel=0.1)
    assert chosen[0] / chosen[9] == pytest.approx(10, rel=0.2)
