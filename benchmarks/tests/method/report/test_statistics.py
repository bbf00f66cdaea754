"""The paired tests find what is there, and claim no more than five seeds and the examples can show."""

import numpy as np
import pytest

from benchmarks.method.report.statistics import holm, paired_bootstrap

RNG = np.random.default_rng(7)
EVEN = np.ones(200)


def test_a_real_difference_is_found_and_its_interval_holds_it() -> None:
    one = (RNG.random((5, 200)) < 0.9).astype(float)
    other = (RNG.random((5, 200)) < 0.8).astype(float)
    found = paired_bootstrap(one, other, EVEN, 2000)
    assert found.mean == pytest.approx(one.mean() - other.mean())
    assert 0 < found.low < found.mean < found.high
    assert found.p < 0.01


def test_equal_methods_do_not_differ() -> None:
    scores = RNG.random((5, 200))
    found = paired_bootstrap(scores, scores, EVEN, 500)
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_noise_is_significant_about_as_often_as_the_level_says() -> None:
    found = [paired_bootstrap(RNG.random((5, 60)), RNG.random((5, 60)), np.ones(60), 300).p < 0.05 for _ in range(100)]
    assert sum(found) < 15


def test_seeds_that_disagree_widen_the_interval() -> None:
    alike = np.full((5, 200), 0.1)
    apart = np.array([[0.6], [-0.4], [0.6], [-0.4], [0.1]]) * np.ones((1, 200))
    zero = np.zeros((5, 200))
    assert paired_bootstrap(alike, zero, EVEN, 500).p < 0.01
    found = paired_bootstrap(apart, zero, EVEN, 500)
    assert found.mean == pytest.approx(0.1)
    assert found.low < 0 < found.high


def test_longer_answers_weigh_more() -> None:
    one = np.array([[1.0, 0.0]] * 3)
    assert paired_bootstrap(one, np.zeros((3, 2)), np.array([3.0, 1.0]), 100).mean == 0.75


def test_the_same_numbers_give_the_same_page() -> None:
    one, other = RNG.random((5, 50)), RNG.random((5, 50))
    assert paired_bootstrap(one, other, np.ones(50), 200) == paired_bootstrap(one, other, np.ones(50), 200)


def test_holms_correction_is_the_textbooks_and_counts_what_is_still_planned() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005], 4) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, 0.5], 24) == pytest.approx([0.24, 1.0])
    assert holm([], 24) == []
