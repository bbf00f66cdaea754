import math
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
import torch
from msgspec import structs
from torch import Tensor

from harness.engine.listed_grammar import ListedMatcher
from harness.engine.sampled_alone import sample
from headmix_server.core.runner import NOT_FINITE, NOTHING_LEFT, BatchRow, RowFailed, Sampled
from headmix_server.core.types import UNSCORED, SamplingParams
from headmix_server.device.adapters.added_tokens import AddedScores
from headmix_server.device.exchange import Readback
from headmix_server.device.sampler import Sampler
from headmix_server.device.token_counts import TokenCounts
from headmix_server.kernels.native.loading import load_native
from headmix_server.kernels.sampling.choice import SamplingBackend
from headmix_server.kernels.sampling.native import native_choose
from headmix_server.kernels.sampling.reference import torch_choose

LOGITS = torch.tensor([[2.0, 1.0, 0.5, -1.0, -3.0]])
BACKENDS = {"torch": torch_choose, "native": native_choose}


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SamplingBackend:
    """Run a test on each implementation."""
    if request.param == "native" and not load_native():
        pytest.skip("no native kernels here")
    chosen = SamplingBackend(request.param, BACKENDS[request.param])
    monkeypatch.setattr("harness.engine.sampled_alone.fastest_sampling", lambda device: chosen)
    return chosen


def row(position: int = 3, history: tuple[int, ...] = (0, 1, 2), prompt_length: int = 3, number: int = 1) -> BatchRow:
    count = 1
    params = SamplingParams(max_tokens=1)
    return BatchRow(number, position - count, count, history, prompt_length, (), None, samples=True, params=params)


def choose(
    logits: Tensor, rows: Sequence[tuple[BatchRow, SamplingParams]], added: Mapping[int, Tensor] | None = None
) -> list[Sampled]:
    found = [choice for choice in sample(logits, rows, added or {}) if isinstance(choice, Sampled)]
    assert len(found) == len(rows)
    return found


def draw(params: SamplingParams, positions: int = 2000) -> Counter[int]:
    rows = [(row(position), params) for position in range(1, positions + 1)]
    return Counter(choice.token for choice in choose(LOGITS.expand(positions, -1), rows))


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
    assert logprob.logprob == pytest.approx(float(expected[6]), abs=1e-6)


def test_added_tokens_are_drawn_filtered_and_penalised_like_any_other() -> None:
    added = {0: torch.tensor([1.9])}
    params = SamplingParams(max_tokens=1, temperature=1.0, seed=3)
    rows = [(row(p), params) for p in range(1, 3001)]
    scores = dict.fromkeys(range(len(rows)), added[0])
    counts = Counter(choice.token for choice in choose(LOGITS.expand(len(rows), -1), rows, scores))
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


def test_a_token_without_a_score_is_reported_as_all_but_impossible(backend: SamplingBackend) -> None:
    back = Readback()
    nothing = AddedScores.stack([None, None], LOGITS.device)
    pending = Sampler(backend).score(LOGITS.repeat(2, 1), [(5, 1), (4, 1)], nothing, back)
    back.fetch()
    unknown, known = pending.read()
    assert unknown is not None
    assert (unknown.token, unknown.logprob) == (5, UNSCORED)
    assert known is not None
    assert known.logprob == pytest.approx(float(LOGITS[0].log_softmax(0)[4]))
    assert known.top == unknown.top


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
    assert NOT_FINITE not in expected
    scores = LOGITS.repeat(4, 1)
    scores[1, 3] = broken
    scores[2] = broken
    assert sample(scores, rows) == [expected[0], NOT_FINITE, NOT_FINITE, expected[3]]
    added = {0: torch.tensor([-9.0]), 3: torch.tensor([broken])}
    found = sample(LOGITS.repeat(4, 1), rows, added)
    assert found[1:] == [expected[1], expected[2], NOT_FINITE]
    assert isinstance(found[0], Sampled)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_any_score_yields_no_token(kind: str) -> None:
    assert sample(torch.full((1, 5), -math.inf), [(row(), KINDS[kind])]) == [NOT_FINITE]


def test_a_log_probability_that_is_not_finite_is_not_returned() -> None:
    scores = torch.tensor([[2.0, -math.inf, -math.inf]])
    params = SamplingParams(max_tokens=1, temperature=0, logprobs=2)
    assert sample(scores, [(row(), params)]) == [NOT_FINITE]


@pytest.mark.parametrize("temperature", [1e-8, 1e-6, 2.0])
def test_every_temperature_that_may_be_asked_for_can_be_computed_with(temperature: float) -> None:
    scores = torch.tensor([[1e20, -1e20, 3.0, 0.0]])
    found = sample(scores, [(row(), SamplingParams(max_tokens=1, temperature=temperature, seed=1))])
    assert found == [Sampled(0)]


def test_the_most_probable_token_of_equal_ones_is_the_first() -> None:
    scores = torch.zeros(3, 70_000)
    scores[1, 500:600] = 2
    scores[2, 7] = math.nan
    found = sample(scores, [(row(), SamplingParams(max_tokens=1, temperature=0))] * 3)
    assert found == [Sampled(0), Sampled(500), NOT_FINITE]


def test_what_a_sequence_has_said_is_counted_token_by_token_and_forgotten_with_it(backend: SamplingBackend) -> None:
    params = SamplingParams(max_tokens=9, temperature=0, frequency_penalty=0.6)
    counts = TokenCounts()
    sampler = Sampler(backend, counts)
    history = [3]

    def step() -> int:
        back = Readback()
        rows = [(row(len(history), tuple(history), 1, number=7), params)]
        pending = sampler.choose(LOGITS, rows, AddedScores.stack([None], LOGITS.device), back)
        back.fetch()
        (choice,) = pending.read()
        assert isinstance(choice, Sampled)
        history.append(choice.token)
        return choice.token

    found = [step() for _ in range(4)]
    counts.release(7)  # preempted: it comes back with everything it has generated
    found += [step() for _ in range(4)]
    assert found == [0, 0, 1, 0, 2, 1, 0, 2]


def test_choices_behind_drafts_are_those_of_the_same_tokens_said_one_by_one(backend: SamplingBackend) -> None:
    drafts, history = [4, 0, 4, 1], [0, 1, 2]
    scores = torch.randn(5, 5, generator=torch.Generator().manual_seed(3)) * 2
    for params in (
        SamplingParams(max_tokens=9, temperature=0, frequency_penalty=0.6),
        SamplingParams(max_tokens=9, temperature=1.2, repetition_penalty=1.4, presence_penalty=0.5, logprobs=2, seed=9),
        SamplingParams(max_tokens=9, temperature=0.8, top_p=0.8, seed=4),
        SamplingParams(max_tokens=9, temperature=0, logit_bias=((2, 1.5),), bad_words=((0, 4), (4, 1, 3))),
        SamplingParams(max_tokens=9, temperature=1.5, min_tokens=4, stop_token_ids=(0, 4), seed=2),
    ):
        asked = BatchRow(1, 2, 5, history, 2, (), None, samples=True, params=params, drafts=drafts)
        one_by_one = [
            sample(scores[known][None], [(row(3 + known, (*history, *drafts[:known]), 2), params)], backend=backend)[0]
            for known in range(5)
        ]
        together = Sampler(backend)
        back = Readback()
        pending = together.choose(scores, [(asked, params)], AddedScores.stack([None] * 5, scores.device), back)
        back.fetch()
        assert pending.read() == one_by_one


def test_wrong_drafts_leave_no_trace_in_the_counts() -> None:
    params = SamplingParams(max_tokens=9, temperature=0, frequency_penalty=0.6)
    counts = TokenCounts()
    history = [0, 1, 2]
    asked = BatchRow(1, 2, 3, history, 2, (), None, samples=True, params=params, drafts=[7, 2])
    before = list(counts.seen(asked))
    assert before == [0, 0, 1, 0, 2, 1]
    assert list(counts.seen(asked, 1)) == [*before, 7, 1]
    assert list(counts.seen(asked, 2)) == [0, 0, 1, 0, 2, 2, 7, 1]
    assert list(counts.seen(asked)) == before
    history.append(3)
    assert list(counts.seen(asked)) == [*before, 3, 1]


def test_a_grammar_a_bias_a_bad_word_and_a_least_length_rule_tokens_out(backend: SamplingBackend) -> None:
    greedy = SamplingParams(max_tokens=9, temperature=0)
    bound = structs.replace(row(), matcher=ListedMatcher([[2, 4]]))
    biased = structs.replace(greedy, logit_bias=((3, 50.0),))
    worded = structs.replace(greedy, bad_words=((2, 0), (1,)))
    long = structs.replace(greedy, min_tokens=2, stop_token_ids=(0,))
    said = row(history=(0, 5, 2), prompt_length=2)
    found = choose(LOGITS.repeat(5, 1), [(bound, greedy), (said, biased), (said, worded), (said, long), (said, greedy)])
    assert [choice.token for choice in found] == [2, 3, 2, 1, 0]


def test_a_row_without_a_token_left_fails_alone(backend: SamplingBackend) -> None:
    greedy = SamplingParams(max_tokens=9, temperature=0, logprobs=0)
    bound = structs.replace(row(), matcher=ListedMatcher([[2]]))
    broken = structs.replace(row(), matcher=ListedMatcher([[]]))
    banned = structs.replace(greedy, logit_bias=((2, -math.inf),))
    found = sample(LOGITS.repeat(3, 1), [(bound, banned), (broken, greedy), (row(), greedy)])
    assert found[0] == NOTHING_LEFT
    assert isinstance(found[1], RowFailed)
    assert "too complex" in found[1].message
    assert isinstance(found[2], Sampled)
    assert found[2].token == 0
