"""A failed step, row or load only fails the requests it belongs to."""

import pytest
from structlog.typing import EventDict

from harness.engine.engines import adapter, generate, load
from headmix_server.core.messages import (
    Failed,
)
from headmix_server.core.runner import AdapterLoadError, RowResult, Sampled
from headmix_server.engine.failed_steps import MAX_FAILED_STEPS, EngineBrokenError
from headmix_server.engine.fake_runner import FakeAdapter
from tests.server.engine.conftest import MakeBench, failing

A, B, C2 = adapter("a"), adapter("b"), adapter("c2")


def test_a_failed_step_fails_its_batch_and_nobody_else(make_bench: MakeBench, logs: list[EventDict]) -> None:
    left, hold = failing(0)
    bench = make_bench(hold=hold, max_running=2)
    bench.submit(*(generate(f"r{n}", [n], A if n else None) for n in range(4)))
    bench.run_until(lambda: len(bench.engine.scheduler.running) == 2)
    caught = [s.request_id for s in bench.engine.scheduler.running.values()]
    left[0] = 1
    bench.drain()
    for n in range(4):
        if f"r{n}" in caught:
            assert bench.failure(f"r{n}") == "internal_error"
        else:
            bench.assert_answered(generate(f"r{n}", [n], A if n else None))
    assert len(caught) == 2
    assert [event["event"] for event in logs].count("step failed") == 1


def test_steps_failing_in_a_row_break_the_engine(make_bench: MakeBench) -> None:
    _, hold = failing(MAX_FAILED_STEPS)
    bench = make_bench(hold=hold, max_running=1)
    bench.submit(*(generate(f"r{n}", [n]) for n in range(5)))
    bench.step(MAX_FAILED_STEPS - 1)
    with pytest.raises(EngineBrokenError, match="the device hiccups"):
        bench.step()


def test_a_good_step_in_between_forgives_the_failed_ones(make_bench: MakeBench) -> None:
    left, hold = failing(0)
    bench = make_bench(hold=hold, max_running=1)
    for n in range(MAX_FAILED_STEPS):
        left[0] = MAX_FAILED_STEPS - 1
        bench.submit(*(generate(f"r{n}-{k}", [n]) for k in range(MAX_FAILED_STEPS)))
        bench.drain()


@pytest.mark.parametrize(
    "results",
    [[], [RowResult(7, Sampled(1))], [RowResult(0)], [RowResult(0, Sampled(1)), RowResult(0, Sampled(1))]],
    ids=["none", "another sequence's", "no token where one is due", "too many"],
)
def test_results_that_break_the_runners_contract_fail_the_step(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch, results: list[RowResult]
) -> None:
    bench = make_bench()
    monkeypatch.setattr(bench.runner, "run", lambda batch: results)
    bench.submit(generate("r", [1]))
    bench.drain()
    assert bench.failure("r") == "internal_error"


def test_a_stale_generation_fails_its_row_loudly_and_only_that(make_bench: MakeBench, logs: list[EventDict]) -> None:
    bench = make_bench()
    bench.warm(A, B)
    others = [generate("b", [2], B, max_tokens=6), generate("base", [3], max_tokens=6)]
    bench.submit(generate("a", [1], A, max_tokens=6), *others)
    bench.step(2)
    (slot,) = [s for s, (_, held) in bench.runner._slots.items() if held.digest == A.digest]
    bench.runner._slots[slot] = (99, FakeAdapter(A.digest))
    bench.drain()
    end = bench.terminal("a")
    assert isinstance(end, Failed)
    assert (end.code, "no longer holds" in end.message) == ("internal_error", True)
    assert [event["request_id"] for event in logs if event["event"] == "request failed"] == ["a"]
    bench.assert_answered(*others)


@pytest.mark.parametrize(
    ("fault", "code"),
    [(AdapterLoadError("its file is missing", missing=True), "model_not_found"), (OSError("disk"), "internal_error")],
)
def test_a_failed_load_fails_all_who_wait_for_it_and_only_them(
    make_bench: MakeBench, fault: Exception, code: str
) -> None:
    bench = make_bench(adapter_slots=1)
    bench.disk.faults["a"] = fault
    others = [generate("b", [1], B), generate("base", [1])]
    bench.submit(generate("a1", [1], A), generate("a2", [2], A), load("a3", A), *others)
    bench.drain()
    assert [bench.failure(name) for name in ("a1", "a2", "a3")] == [code] * 3
    bench.assert_answered(*others)
    bench.disk.faults.clear()
    again = generate("again", [1], A)
    bench.submit(again)
    bench.drain()
    bench.assert_answered(again)


def test_shutting_down_ends_everything_that_is_open(make_bench: MakeBench) -> None:
    bench = make_bench(max_running=1)
    bench.disk.gate(B)
    bench.submit(generate("running", [1], A, max_tokens=50), generate("waiting", [1], B), load("load", B))
    bench.run_until(lambda: bool(bench.tokens("running")))
    bench.submit(generate("refused", []))
    outputs = bench.engine.shut_down("the server is shutting down")
    codes = {o.request_id: o.code for o in outputs if isinstance(o, Failed)}
    assert codes.pop("refused") == "invalid_request_error"
    assert codes == dict.fromkeys(("running", "waiting", "load"), "engine_unavailable")
    bench.engine.check_integrity()
    assert bench.engine.scheduler.kv_cache.usage == 0
