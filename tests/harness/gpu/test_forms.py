from pathlib import Path

import pytest

from harness.gpu import forms
from harness.gpu.forms import Answers, agreement, common_prefix, expected_answers

BASE = Answers([[1, 2, 3], [4, 5]], ["spam", None], [{"spam": 0.75, "ham": 0.25}, {"a": 0.5}], [[1.0, 0.0]], 2.0, 9.0)


def test_a_form_that_computes_the_same_agrees_in_everything() -> None:
    found = agreement(BASE, BASE)
    assert (found.same_answers, found.same_prefix_tokens, found.tokens, found.same_labels) == (2, 5, 5, 2)
    assert (found.worst_score, found.least_cosine) == (0.0, 1.0)


def test_every_difference_is_counted_where_it_is() -> None:
    other = Answers([[1, 9, 3], [4, 5]], ["ham", None], [{"spam": 0.5, "ham": 0.5}, {"a": 0.5}], [[0.6, 0.8]], 1.0, 5.0)
    found = agreement(other, BASE)
    assert (found.same_answers, found.same_prefix_tokens, found.same_labels) == (1, 3, 1)
    assert found.worst_score == 0.25
    assert found.least_cosine == pytest.approx(0.6)
    assert (found.seconds, found.start_seconds) == (1.0, 5.0)


@pytest.mark.parametrize(("mine", "theirs", "shared"), [([], [1], 0), ([1, 2], [1, 2, 3], 2), ([2], [1], 0)])
def test_the_shared_start_of_two_answers(mine: list[int], theirs: list[int], shared: int) -> None:
    assert common_prefix(mine, theirs) == shared


def test_the_expected_answers_are_computed_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []

    def answers(base: str, **settings: str) -> Answers:
        computed.append((base, settings))
        return BASE

    monkeypatch.setattr(forms, "answers", answers)
    kept = tmp_path / "expected.json"
    assert expected_answers("tiny", kept) == expected_answers("tiny", kept) == BASE
    assert computed == [("tiny", {"device": "cpu", "dtype": "float32"})]
