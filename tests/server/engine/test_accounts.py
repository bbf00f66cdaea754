"""What was computed for a request is accounted for once, however the request ends."""

from harness.engine.engines import adapter, generate
from headmix_server.core.messages import (
    Abort,
    Failed,
)
from headmix_server.core.types import TokenCounts
from tests.server.engine.conftest import MakeBench, failing

A, B, C2 = adapter("a"), adapter("b"), adapter("c2")


def test_every_abort_is_followed_by_the_account_of_what_was_computed(make_bench: MakeBench) -> None:
    bench = make_bench(max_batch_tokens=4, max_running=2)
    bench.submit(generate("long", [1] * 100), generate("said", [2], max_tokens=9, tenant="u"), generate("waits", [3]))
    bench.run_until(lambda: len(bench.tokens("said")) == 2)
    for request_id in ("long", "said", "waits", "unknown"):
        bench.engine.abort(Abort(request_id=request_id))
    bench.drain()
    read = bench.computed["long"].prompt
    assert 0 < read < 100
    assert bench.accounts == {
        "long": [TokenCounts(prompt=read)],
        "said": [TokenCounts(prompt=1, generated=2)],
        "waits": [TokenCounts()],
        "unknown": [TokenCounts()],
    }


def test_the_account_of_a_request_aborted_in_flight_comes_when_the_step_has_landed(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.submit(generate("r", [1, 2, 3], max_tokens=9))
    bench.step(2)
    bench.begin()
    bench.engine.abort(Abort(request_id="r"))
    assert bench.engine.accounts.take() == []
    bench.finish()
    assert bench.accounts["r"] == [TokenCounts(prompt=3, generated=3)]


def test_what_was_computed_and_not_yet_said_is_in_the_account_though_the_request_has_ended(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    bench.submit(generate("r", [1, 2], max_tokens=1))
    batch = bench.engine.begin()
    assert batch is not None
    bench.engine.finish(bench.runner.run(batch))
    bench.engine.abort(Abort(request_id="r"))
    bench.drain()
    assert bench.outputs["r"] == []
    assert bench.accounts["r"] == [TokenCounts(prompt=2, generated=1)]


def test_a_failure_reports_what_had_been_computed_and_not_what_the_failed_step_would_have(
    make_bench: MakeBench,
) -> None:
    left, hold = failing(0)
    bench = make_bench(hold=hold, max_batch_tokens=4)
    bench.submit(generate("r", [1] * 10))
    bench.step()
    left[0] = 1
    bench.drain()
    failed = bench.terminal("r")
    assert isinstance(failed, Failed)
    assert failed.counts == TokenCounts(prompt=4)


def test_prompt_tokens_found_in_the_cache_are_reported_separately(make_bench: MakeBench) -> None:
    bench = make_bench(max_batch_tokens=8)
    prompt = [1, 2, 3, 4, 5, 6, 7, 8]
    bench.submit(generate("first", prompt, max_tokens=1))
    bench.drain()
    bench.submit(generate("second", [*prompt, 9, 10], max_tokens=9))
    bench.step()
    bench.engine.abort(Abort(request_id="second"))
    bench.drain()
    assert bench.accounts["second"] == [TokenCounts(prompt=10, cached=8, generated=1)]
