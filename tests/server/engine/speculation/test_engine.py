"""Speculation in the engine: the same tokens in fewer steps, and every account as without."""

from dataclasses import replace
from itertools import pairwise

import pytest

from harness.engine.engines import LIMITS, Bench, adapter, generate
from harness.engine.witness_runner import WitnessRunner
from headmix_server.core.messages import Abort, Failed, TokenOutput
from headmix_server.core.runner import (
    NOT_FINITE,
    Batch,
    BatchRow,
    RowResult,
    Sampled,
    check_results,
    failed_row,
    verify_drafts,
)
from headmix_server.core.types import FinishReason, SamplingParams, TokenCounts
from headmix_server.engine.cache.kv_cache import KVCache
from headmix_server.engine.report import make_report
from headmix_server.engine.speculation.speculation import MOST_ROWS

SAME = range(7, 8)
"""Every token is 7: every guess is right."""
A = adapter("a")


def make(token_range: range = SAME, tokens: int = 4, **limits: object) -> Bench:
    return Bench(replace(LIMITS, **({"speculative_tokens": tokens} | limits)), token_range)  # type: ignore[arg-type]  # as the tests name them


def drafted(bench: Bench) -> list[int]:
    """Return how many tokens each row of each step guessed."""
    return [len(row.drafts) for batch in bench.batches for row in batch.rows]


@pytest.mark.parametrize(("tokens", "steps"), [(1, 21), (3, 14), (8, 10)])
def test_right_guesses_make_fewer_steps_of_the_same_tokens(tokens: int, steps: int) -> None:
    bench = make(tokens=tokens)
    bench.submit(request := generate("r", [1, 7, 7], A, max_tokens=40, logprobs=2))
    bench.warm(A)
    bench.drain()
    bench.assert_answered(request)
    assert len(bench.batches) == steps
    outputs = [output for output in bench.outputs["r"] if isinstance(output, TokenOutput)]
    assert [len(output.tokens) for output in outputs] == [1] * 40
    assert all(output.logprobs and output.logprobs[0].token == 7 for output in outputs)
    assert [output.queue_seconds is not None for output in outputs] == [True, *[False] * 39]
    bench.close()


@pytest.mark.parametrize("stop", ["eos", "stop token"])
def test_nothing_is_answered_behind_the_token_that_ends_a_generation(stop: str) -> None:
    eos = frozenset({7}) if stop == "eos" else frozenset[int]()
    bench = make(eos_ids=eos)
    bench.submit(generate("r", [1, 7, 7, 7], max_tokens=40, ignore_eos=True))
    bench.run_until(lambda: len(bench.tokens("r")) > 8)  # guesses are made and right
    ids = (7,) if stop == "stop token" else ()
    bench.submit(request := generate("s", [1, 7, 7, 7], max_tokens=40, stop_token_ids=ids))
    bench.drain()
    bench.assert_answered(request)
    last = bench.outputs["s"][-1]
    assert isinstance(last, TokenOutput)
    assert last.finish_reason is FinishReason.STOP
    bench.close()


def test_an_end_within_right_guesses_is_the_end() -> None:
    bench = make(range(2), eos_ids=frozenset({0}), tokens=8)
    requests = [generate(f"r{n}", [1, 0] * 6 + [1] * n, max_tokens=30) for n in range(8)]
    bench.submit(*requests)
    bench.drain()
    bench.assert_answered(*requests)
    assert sum(drafted(bench)) > 0
    bench.close()


def test_no_guess_goes_beyond_what_may_be_generated() -> None:
    bench = make(tokens=8)
    bench.submit(*(generate(f"r{n}", [1, 7, 7, 7], max_tokens=n) for n in range(1, 8)))
    bench.drain()
    for batch in bench.batches:
        for row in batch.rows:
            assert isinstance(row.params, SamplingParams)
            assert row.end < row.prompt_length + row.params.max_tokens
    bench.close()


def test_many_rows_and_prompts_that_are_computed_make_no_guesses() -> None:
    bench = make(max_running=16)
    bench.submit(*(generate(f"r{n}", [n, 7, 7, 7], max_tokens=20) for n in range(MOST_ROWS + 1)))
    bench.drain()
    assert sum(drafted(bench)) == 0
    bench.submit(generate("r", [1, 7, 7, 7], max_tokens=20))
    bench.step(3)
    assert drafted(bench)[-1] > 0
    before = len(bench.batches)
    bench.submit(generate("long", [3] * 150, max_tokens=1))
    bench.run_until(lambda: bool(bench.outputs["long"]))
    chunks = [batch for batch in bench.batches[before:] if any(row.sequence_id == 10 for row in batch.rows)]
    assert len(chunks) >= 3
    assert all(not row.drafts for batch in chunks[1:] for row in batch.rows)
    bench.drain()
    bench.close()


def test_steps_keep_the_token_budget_and_guesses_push_nobody_out() -> None:
    bench = make(max_batch_tokens=5, kv_blocks=12, tokens=8)
    requests = [generate(f"r{n}", [n, 7, 7, 7], max_tokens=30) for n in range(3)]
    bench.submit(*requests)
    bench.drain()
    bench.assert_answered(*requests)
    assert max(batch.num_tokens for batch in bench.batches) == 5
    assert sum(drafted(bench)) > 0
    bench.close()


def test_preempted_sequences_are_answered_as_alone() -> None:
    bench = make(range(2), kv_blocks=14, tokens=6)
    requests = [generate(f"r{n}", [0, 1] * 5 + [n % 2], max_tokens=28) for n in range(4)]
    bench.submit(*requests)
    while not bench.engine.idle:
        for sequence in list(bench.engine.scheduler.running.values())[::3]:
            bench.engine.scheduler.preempt(sequence)
            bench.engine.check_integrity()
        bench.step(9)
    bench.assert_answered(*requests)
    bench.close()


# --- accounts ----------------------------------------------------------------------------------------------------


def test_only_accepted_tokens_reach_the_prefix_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The witness finds a block that holds another's numbers; this one looks at the keys too."""
    published: list[tuple[int, int]] = []
    publish = KVCache.publish

    def record(cache: KVCache, number: int, keys: object, tokens: list[int], num_computed: int) -> None:
        published.append((num_computed, len(tokens)))
        publish(cache, number, keys, tokens, num_computed)  # type: ignore[arg-type]  # handed on as it is

    monkeypatch.setattr(KVCache, "publish", record)
    bench = make(range(2), tokens=8)
    bench.submit(generate("r", [0, 1] * 8, max_tokens=60))
    bench.drain()
    assert all(num_computed < length for num_computed, length in published)
    bench.submit(again := generate("again", [*[0, 1] * 8, *bench.tokens("r")], max_tokens=4))
    bench.drain()
    bench.assert_answered(again)
    first = bench.outputs["again"][0]
    assert isinstance(first, TokenOutput)
    assert first.cached_tokens == (16 + 60 - 1) // 4 * 4
    bench.close()


def test_tenants_are_charged_for_the_tokens_they_get_whatever_was_guessed() -> None:
    charged = []
    for tokens in (0, 8):
        bench = make(range(2), tokens=tokens)
        bench.submit(generate("r", [0, 1] * 8, max_tokens=60, frequency_penalty=0.5))
        bench.drain()
        charged.append(bench.engine._counters.counter("t"))
        bench.close()
    assert charged[1] == pytest.approx(charged[0], rel=0.001)


def test_an_abort_in_flight_counts_what_the_guesses_yielded() -> None:
    bench = make()
    bench.submit(generate("r", [1, 7, 7], max_tokens=100))
    bench.run_until(lambda: len(bench.tokens("r")) > 8)
    bench.begin()
    assert bench.in_flight is not None
    num_drafts = len(bench.in_flight.rows[0].drafts)
    assert num_drafts > 0
    before = len(bench.tokens("r"))
    bench.engine.abort(Abort(request_id="r"))
    bench.finish()
    assert bench.accounts["r"] == [TokenCounts(prompt=3, generated=before + 1 + num_drafts)]
    assert bench.accounts["r"] == [bench.computed["r"]]
    bench.close()


def test_guesses_and_right_ones_are_counted_once_for_the_metrics() -> None:
    bench = make()
    bench.submit(generate("r", [1, 7, 7], max_tokens=40))
    bench.drain()
    report = make_report(bench.engine)
    assert report.drafted_tokens == sum(drafted(bench)) > 0
    assert report.accepted_tokens == 40 - len(bench.batches)
    again = make_report(bench.engine)
    assert (again.drafted_tokens, again.accepted_tokens) == (0, 0)
    bench.close()


def test_no_sequence_guesses_by_another_ones_tokens() -> None:
    bench = make(range(100, 10_000))
    bench.submit(generate("said", list(range(50)), max_tokens=10))
    bench.drain()
    text = [*range(50), *bench.tokens("said")]
    bench.submit(generate("asks", text[:52], max_tokens=6))  # the other's text would tell how it goes on
    bench.drain()
    assert sum(drafted(bench)) == 0
    bench.close()


# --- numbers that are not finite ---------------------------------------------------------------------------------


class Overflowing(WitnessRunner):
    """Fails rows that reach a position, guesses among them."""

    at = 0
    drafts_only = False

    def run(self, batch: Batch) -> list[RowResult]:
        results = super().run(batch)
        for place, row in enumerate(batch.rows):
            if row.end > self.at and (row.drafts or not self.drafts_only):
                results[place] = failed_row(row, NOT_FINITE)
                self._spoil(row)
        return results


@pytest.fixture
def overflowing(monkeypatch: pytest.MonkeyPatch) -> type[Overflowing]:
    monkeypatch.setattr("harness.engine.engines.WitnessRunner", Overflowing)
    monkeypatch.setattr(Overflowing, "at", 12)
    monkeypatch.setattr(Overflowing, "drafts_only", False)
    return Overflowing


def test_a_guess_whose_numbers_overflow_fails_nothing_and_is_the_sequences_last(
    overflowing: type[Overflowing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overflowing, "drafts_only", True)
    bench = make()
    bench.submit(request := generate("r", [1, 7, 7], max_tokens=40))
    bench.drain()
    bench.assert_answered(request)
    assert make_report(bench.engine).numerical_errors == 0
    places = [bool(row.drafts) for batch in bench.batches for row in batch.rows]
    assert True in places
    assert not any(later and not earlier for earlier, later in pairwise(places[places.index(True) :]))
    bench.close()


def test_a_sequence_whose_own_numbers_overflow_fails_after_the_same_tokens(overflowing: type[Overflowing]) -> None:
    for tokens in (0, 4):
        bench = make(tokens=tokens)
        bench.submit(generate("r", [1, 7, 7], max_tokens=40))
        bench.drain()
        assert len(bench.tokens("r")) == 10  # of positions 3 to 12
        assert isinstance(bench.terminal("r"), Failed)
        assert bench.failure("r") == "numerical_error"
        assert make_report(bench.engine).numerical_errors == 1
        bench.close()


# --- the runner's contract ---------------------------------------------------------------------------------------


def row(*drafts: int) -> BatchRow:
    return BatchRow(
        0, 2, 1 + len(drafts), [4, 5, 6], 2, (), None, samples=True, params=SamplingParams(max_tokens=9), drafts=drafts
    )


def test_tokens_stand_up_to_the_first_that_is_not_its_draft() -> None:
    chosen = [Sampled(token) for token in (1, 2, 3)]
    assert verify_drafts(row(1, 2), chosen).tokens == tuple(chosen)
    assert verify_drafts(row(1, 9), chosen).tokens == tuple(chosen[:2])
    assert verify_drafts(row(9, 2), chosen).tokens == tuple(chosen[:1])
    assert verify_drafts(row(), chosen[:1]) == RowResult(0, chosen[0])


@pytest.mark.parametrize(
    "result",
    [
        RowResult(0, Sampled(9), further=(Sampled(2),)),
        RowResult(0, Sampled(1), further=(Sampled(2), Sampled(3), Sampled(4))),
        RowResult(0, None, further=(Sampled(2),)),
    ],
)
def test_a_runner_that_goes_on_behind_a_wrong_draft_breaks_its_contract(result: RowResult) -> None:
    with pytest.raises(RuntimeError):
        check_results(Batch((row(1, 2),)), [result])


def test_a_row_tells_its_drafts_from_what_is_known() -> None:
    assert list(row(1, 2).tokens) == [6, 1, 2]
    assert (row(1, 2).known_end, row(1, 2).end) == (3, 5)
    assert list(row().tokens) == [6]
