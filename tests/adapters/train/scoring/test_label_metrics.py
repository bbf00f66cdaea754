"""Scores of labels and numbers agree with their textbook definitions, computed by loops."""

import math
from collections.abc import Sequence
from statistics import correlation

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from headmix_adapters.train.scoring.label_metrics import label_scores, number_scores

PAIRS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20)


def one_hot(numbers: Sequence[int]) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(numbers), 3)


@given(pairs=PAIRS)
def test_mcc_is_the_correlation_of_the_confusion_matrix(pairs: list[tuple[int, int]]) -> None:
    right = sum(one == other for one, other in pairs)
    said, true = ([sum(pair[side] == label for pair in pairs) for label in range(3)] for side in (0, 1))
    count = len(pairs)
    spread = (count**2 - sum(n * n for n in said)) * (count**2 - sum(n * n for n in true))
    expected = (right * count - sum(map(math.prod, zip(said, true, strict=True)))) / math.sqrt(spread) if spread else 0
    scores = label_scores(("mcc", "micro_f1"), one_hot([one for one, _ in pairs]), one_hot([two for _, two in pairs]))
    assert scores["mcc"] == pytest.approx(expected, abs=1e-9)
    assert scores["micro_f1"] == pytest.approx(right / count)  # with one label a text, it is the accuracy


def test_binary_f1_is_that_of_the_second_label() -> None:
    predicted, actual = torch.tensor([[0, 1], [0, 1], [1, 0]]), torch.tensor([[0, 1], [1, 0], [0, 1]])
    assert label_scores(("binary_f1",), predicted, actual) == {"binary_f1": pytest.approx(0.5)}
    assert label_scores(("binary_f1",), torch.tensor([[1, 0]]), torch.tensor([[1, 0]])) == {"binary_f1": 0}


@given(pairs=st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=20))
def test_correlations_are_pearsons_of_values_and_of_ranks(pairs: list[tuple[int, int]]) -> None:
    one, other = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    assume(len(set(one)) > 1)
    assume(len(set(other)) > 1)
    scores = number_scores(("pearson", "spearman"), torch.tensor([one]).T, torch.tensor([other]).T)
    assert scores["pearson"] == pytest.approx(correlation(one, other), abs=1e-9)
    ranks = [[sum(w < v for w in side) + sum(w == v for w in side) / 2 for v in side] for side in (one, other)]
    assert scores["spearman"] == pytest.approx(correlation(*ranks), abs=1e-9)


def test_a_correlation_with_a_constant_is_no_score() -> None:
    assert number_scores(("pearson", "spearman"), torch.ones(3, 1), torch.tensor([[1.0], [2.0], [3.0]])) == {}
