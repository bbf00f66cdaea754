import math
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from headmix_server.core.runner import BatchRow, Sampled
from headmix_server.core.types import UNSCORED, SamplingParams
from headmix_server.device.sampler import NO_TOKEN, describe, most_probable, sample

LOGITS = torch.tensor([[2.0, 1.0, 0.5, -1.0, -3.0]])


def row(position: int = 3, history: tuple[int, ...] = (0, 1, 2), prompt_length: int = 3) -> BatchRow:
    count = 1
    return BatchRow(
        1, position - count, count, history, prompt_length, (), None, samples=True, params=SamplingParams(max_tokens=1)
    )


def choose(
    logits: Tensor, rows: Sequence[tuple[BatchRow, SamplingParams]], added: Mapping[int, Tensor] | None = None
) -> list[Sampled]:
    found = [choice for choice in sample(logits, rows, added or {}) if choice is not None]
    assert len(found) == len(rows)
    return found


def draw(params: SamplingParams, positions: int = 2000) -> Counter[int]:
    return Counter(choose(LOGITS, [(row(position), params)])[0].token for position in range(1, positions + 1))


def test_temperature_zero_takes_the_most_probable() -> None:
    assert choose(LOGITS, [(row(), SamplingParams(max_tokens=1, temperature=0))])[0].token == 0


def test_sampled_frequencies_follow_the_softmax() -> None:
    counts = draw(SamplingParams(max_tokens=1, temperature=1.0, seed=11), positions=4000)
    for token, p in enumerate(LOGITS[0].softmax(0).tolist()):
        assert counts[token] / 4000 == pytest.approx(p, abs=0.035)


def test_the_same_seed_and_position_draw_the_same_whatever_else_is_in_the_batch() -> None:
    params = SamplingParams(max_tokens=1, temperature=1.0, seed=5)
    others = [(row(p), SamplingParams(max_tokens=1, temperature=1.5, seed=p)) for p in range(4, 9)]
    for position in range(1, 40):
        alone = choose(LOGITS, [(row(position), params)])[0].token
        crowd = choose(LOGITS.repeat(6, 1), [*others, (row(position), params)])[-1].token
        assert alone == crowd


def test_different_seeds_draw_differently() -> None:
    def run(seed: int) -> list[int]:
        params = SamplingParams(max_tokens=1, temperature=1.0, seed=seed)
        return [choose(LOGITS, [(row(p), params)])[0].token for p in range(1, 60)]

    assert run(1) != run(2)


@pytest.mark.parametrize(
    ("params", "allowed"),
    [
        (SamplingParams(max_tokens=1, temperature=2.0, top_k=2), {0, 1}),
        (SamplingParams(max_tokens=1, temperature=1.0, top_p=0.7), {0, 1}),
        (SamplingParams(max_tokens=1, temperature=1.0, top_p=0.01), {0}),
        (SamplingParams(max_tokens=1, temperature=1.0, min_p=0.3), {0, 1}),
    ],
    ids=["top_k", "top_p", "top_p keeps one", "min_p"],
)
def test_filters_exclude_exactly_what_they_name(params: SamplingParams, allowed: set[int]) -> None:
    assert set(draw(params, 400)) == allowed


def test_penalties_push_down_what_has_been_said() -> None:
    said = row(history=(4, 0, 0), prompt_length=1)
    frequency = SamplingParams(max_tokens=1, temperature=0, frequency_penalty=1.0)
    presence = SamplingParams(max_tokens=1, temperature=0, presence_penalty=1.5)
    repetition = SamplingParams(max_tokens=1, temperature=0, repetition_penalty=3.0)
    assert [choose(LOGITS, [(said, p)])[0].token for p in (frequency, presence, repetition)] == [1, 1, 1]
    prompt_only = row(history=(0, 0), prompt_length=2)
    assert choose(LOGITS, [(prompt_only, frequency)])[0].token == 0
    assert choose(LOGITS, [(prompt_only, repetition)])[0].token == 1


def test_logprobs_are_of_the_unscaled_scores() -> None:
    params = SamplingParams(max_tokens=1, temperature=0.1, top_k=1, logprobs=3)
    logprob = choose(LOGITS, [(row(), params)])[0].logprob
    assert logprob is not None
    expected = LOGITS[0].log_softmax(0)
    assert logprob.token == 0
    assert logprob.logprob == pytest.approx(float(expected[0]))
    assert [token for token, _ in logprob.top] == [0, 1, 2]
    assert [value for _, value in logprob.top] == pytest.approx(expected[:3].tolist())


def test_added_scores_widen_their_own_row_and_no_other() -> None:
    greedy = SamplingParams(max_tokens=1, temperature=0, logprobs=2)
    rows = [(row(), greedy)] * 3
    plain = choose(LOGITS.repeat(3, 1), rows)
    widened = choose(LOGITS.repeat(3, 1), rows, {1: torch.tensor([1.5, 9.0])})
    assert [choice.token for choice in widened] == [0, 6, 0]
    assert (widened[0], widened[2]) == (plain[0], plain[2])
    logprob = widened[1].logprob
    assert logprob is not None
    expected = torch.cat([LOGITS[0], torch.tensor([1.5, 9.0])]).log_softmax(0)
    assert [token for token, _ in logprob.top] == [6, 0]
    assert logprob.logprob == pytest.approx(float(expected[6]))


def test_added_tokens_are_drawn_filtered_and_penalised_like_any_other() -> None:
    added = {0: torch.tensor([1.9])}
    params = SamplingParams(max_tokens=1, temperature=1.0, seed=3)
    counts = Counter(choose(LOGITS, [(row(p), params)], added)[0].token for p in range(1, 3001))
    for token, p in enumerate(torch.cat([LOGITS[0], added[0]]).softmax(0).tolist()):
        assert counts[token] / 3000 == pytest.approx(p, abs=0.035)
    narrow = SamplingParams(max_tokens=1, temperature=1.0, top_k=2)
    assert {choose(LOGITS, [(row(p), narrow)], added)[0].token for p in range(1, 200)} == {0, 5}
    said = row(history=(1, 5, 5), prompt_length=1)
    penalised = SamplingParams(max_tokens=1, temperature=0, frequency_penalty=2.0, repetition_penalty=2.0)
    assert choose(LOGITS, [(said, penalised)], {0: torch.tensor([5.0])})[0].token == 0


def test_a_token_that_is_only_read_is_no_obstacle_to_penalties() -> None:
    read = row(history=(7, 0, 5), prompt_length=3)
    params = SamplingParams(max_tokens=1, temperature=0, repetition_penalty=3.0, frequency_penalty=1.0)
    assert choose(LOGITS, [(read, params)])[0].token == 1


def test_a_token_without_a_score_is_told_as_all_but_impossible() -> None:
    assert describe(LOGITS[0].log_softmax(0), 5, 1).logprob == UNSCORED


KINDS = {
    "greedy": SamplingParams(max_tokens=1, temperature=0),
    "log-probabilities": SamplingParams(max_tokens=1, temperature=0, logprobs=2),
    "sampled": SamplingParams(max_tokens=1, temperature=1.0, seed=4),
    "filtered": SamplingParams(max_tokens=1, temperature=0.5, top_k=2, top_p=0.9, min_p=0.1, logprobs=0),
    "penalised": SamplingParams(max_tokens=1, temperature=0, repetition_penalty=2.0, presence_penalty=1.0),
}


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_that_are_not_finite_yield_no_token_and_leave_others_alone(kind: str, broken: float) -> None:
    params = KINDS[kind]
    rows = [(row(), params)] * 4
    expected = sample(LOGITS.repeat(4, 1), rows)
    assert None not in expected
    scores = LOGITS.repeat(4, 1)
    scores[1, 3] = broken
    scores[2] = broken
    assert sample(scores, rows) == [expected[0], None, None, expected[3]]
    added = {0: torch.tensor([-9.0]), 3: torch.tensor([broken])}
    found = sample(LOGITS.repeat(4, 1), rows, added)
    assert found[1:] == [expected[1], expected[2], None]
    assert found[0] is not None


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_any_score_yields_no_token(kind: str) -> None:
    assert sample(torch.full((1, 5), -math.inf), [(row(), KINDS[kind])]) == [None]


def test_a_log_probability_that_is_not_finite_is_not_told() -> None:
    scores = torch.tensor([[2.0, -math.inf, -math.inf]])
    params = SamplingParams(max_tokens=1, temperature=0, logprobs=2)
    assert sample(scores, [(row(), params)]) == [None]


@pytest.mark.parametrize("temperature", [1e-8, 1e-6, 2.0])
def test_every_temperature_that_may_be_asked_for_can_be_computed_with(temperature: float) -> None:
    scores = torch.tensor([[1e20, -1e20, 3.0, 0.0]])
    found = sample(scores, [(row(), SamplingParams(max_tokens=1, temperature=temperature, seed=1))])
    assert found == [Sampled(0)]


def test_the_most_probable_token_of_equal_ones_is_the_first() -> None:
    scores = torch.zeros(3, 70_000)
    scores[1, 500:600] = 2
    scores[2, 7] = math.nan
    assert most_probable(scores).tolist() == [0, 500, NO_TOKEN]
