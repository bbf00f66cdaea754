"""Scores of texts agree with slow references, and with those of the packages people compare with."""

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from headmix_adapters.train.scoring.answer_metrics import answer_text_scores, common_length, rouge_l

WORDS = st.lists(st.sampled_from("abc"), max_size=9)


@given(one=WORDS, other=WORDS)
def test_the_longest_common_subsequence_is_that_of_the_table(one: list[str], other: list[str]) -> None:
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for row, word in enumerate(one):
        for column, second in enumerate(other):
            best = max(table[row][column + 1], table[row + 1][column])
            table[row + 1][column + 1] = table[row][column] + 1 if word == second else best
    assert common_length(one, other) == table[-1][-1]


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [
        # The first three as the package rouge-score 0.1.2 gives them.
        ("The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log.", 0.5882352941),
        ("police killed the gunman", "police kill the gunman", 0.75),
        ("x", "y", 0.0),
        ("Привет, мир", "привет мир", 1.0),
        ("", "", 1.0),
        ("", "a", 0.0),
    ],
)
def test_rouge_l_is_the_one_people_know(answer: str, expected: str, score: float) -> None:
    assert rouge_l(answer, expected) == pytest.approx(score)


def test_each_score_is_of_all_answers() -> None:
    answers, expected = ["the cat sat on the mat ", "a dog"], ["the cat sat on the mat", "one cat"]
    scores = answer_text_scores(("exact_match", "rouge_l", "bleu", "chrf"), answers, expected)
    assert scores["exact_match"] == 0.5
    assert scores["rouge_l"] == pytest.approx(0.5)
    assert scores["bleu"] == sacrebleu.corpus_bleu(answers, [expected]).score
    assert scores["chrf"] == sacrebleu.corpus_chrf(answers, [expected]).score
