"""A sequence with non-finite numbers ends with an error that names its adapter, and leaves nothing behind."""

import pytest
from structlog.testing import capture_logs

from harness.engine.engines import Bench, adapter, classify, embed, generate
from harness.engine.witness_runner import WitnessRunner
from headmix_server.core.errors import NumericalError
from headmix_server.core.messages import Classify, Embed, Failed, Request
from headmix_server.core.runner import NOT_FINITE, Batch, BatchRow, RowResult
from headmix_server.core.types import AdapterRef, TokenCounts
from headmix_server.engine.report import make_report

GOOD, HUGE, HEAD = adapter("good"), adapter("huge"), adapter("c3huge")
SAYS = "the result is not finite (NaN or infinity)."


class Overflowing(WitnessRunner):
    """Fails every row of the adapters in `broken` (None: the base) that reaches position `at`."""

    broken: frozenset[str | None] = frozenset()
    at = 0

    def run(self, batch: Batch) -> list[RowResult]:
        results = super().run(batch)
        for place, row in enumerate(batch.rows):
            if self.overflows(row):
                results[place] = RowResult(row.sequence_id, NOT_FINITE)
                self._spoil(row)
        return results

    def overflows(self, row: BatchRow) -> bool:
        return (None if row.lease is None else row.lease.digest) in self.broken and row.end > self.at


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("harness.engine.engines.WitnessRunner", Overflowing)
    monkeypatch.setattr(Overflowing, "broken", frozenset({HUGE.digest, HEAD.digest}))
    monkeypatch.setattr(Overflowing, "at", 0)
    return Bench()


def failed(message: str) -> Failed:
    """Return the end of request "r", whose prompt of three tokens was computed and is charged."""
    return Failed(request_id="r", code=NumericalError.code, message=message, counts=TokenCounts(prompt=3))


REQUESTS: dict[str, Request] = {
    "a generation": generate("r", [1, 2, 3], HUGE),
    "a classification": classify("r", [1, 2, 3], HEAD),
    "an embedding": embed("r", [1, 2, 3], HUGE),
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_it_fails_with_the_adapters_name_and_its_neighbours_are_answered(bench: Bench, kind: str) -> None:
    bench.warm(GOOD, HUGE, HEAD)
    others = [generate("base", [4, 5]), generate("good", [6, 7], GOOD)]
    bench.submit(*others, REQUESTS[kind])
    bench.drain()
    request = REQUESTS[kind]
    assert isinstance(request, Classify | Embed) or request.adapter is not None
    name = "c3huge@1" if kind == "a classification" else "huge@1"
    assert bench.outputs["r"] == [failed(f"Adapter {name!r}: {SAYS}")]
    bench.assert_answered(*others)


def test_the_base_is_named_as_such(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Overflowing, "broken", frozenset({None}))
    bench.submit(generate("r", [1, 2, 3]))
    bench.drain()
    assert bench.outputs["r"] == [failed(f"The base: {SAYS}")]


def test_tokens_before_the_overflow_stand_and_nothing_follows_the_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Overflowing, "at", 5)
    bench.warm(HUGE)
    bench.submit(generate("r", [1, 2, 3], HUGE, max_tokens=8))
    bench.drain()
    assert len(bench.tokens("r")) == 3  # of positions 3 to 5
    assert bench.failure("r") == NumericalError.code


def test_a_prompt_in_chunks_fails_with_its_first_broken_chunk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Overflowing, "at", 100)
    bench.warm(HUGE)
    bench.submit(generate("r", list(range(1, 201)), HUGE))
    bench.drain()
    assert bench.failure("r") == NumericalError.code
    assert sum(row.count for batch in bench.batches for row in batch.rows) <= 128  # the third chunk never ran


def test_what_it_computed_cannot_be_found_in_the_prefix_cache(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Overflowing, "at", 64)  # the second chunk: the first was fine and may be found
    bench.warm(HUGE)
    prompt = list(range(1, 101))
    bench.submit(generate("r", prompt, HUGE))
    bench.drain()
    assert bench.failure("r") == NumericalError.code
    monkeypatch.setattr(Overflowing, "broken", frozenset())
    again = generate("again", prompt, HUGE)
    bench.submit(again)
    bench.drain()
    bench.assert_answered(again)
    first = next(output for output in bench.outputs["again"])
    assert getattr(first, "cached_tokens", None) == 64


def test_failures_are_counted_once_for_the_metrics(bench: Bench) -> None:
    bench.warm(GOOD, HUGE)
    refs: list[AdapterRef | None] = [HUGE, GOOD, HUGE, None]
    bench.submit(*(generate(f"r{number}", [1, 2, number], ref) for number, ref in enumerate(refs)))
    bench.drain()
    assert make_report(bench.engine).numerical_errors == 2
    assert make_report(bench.engine).numerical_errors == 0


def test_one_line_of_the_log_has_the_adapter_the_tenant_and_the_code(bench: Bench) -> None:
    bench.warm(HUGE)
    with capture_logs() as events:
        bench.submit(generate("r", [1, 2, 3], HUGE))
        bench.drain()
    assert events == [
        {
            "event": "request failed",
            "log_level": "warning",
            "part": "engine",
            "request_id": "r",
            "tenant": "t",
            "adapter": "huge@1",
            "digest": HUGE.digest,
            "code": NumericalError.code,
        }
    ]
