"""What the engine promises each request: exactly one end, the right tokens, and nobody else's trouble."""

import threading

import pytest
from structlog.typing import EventDict

from harness.engine.engines import GIVE_UP_SECONDS, Bench, adapter, classify, embed, expected_generation, generate, load
from headmix_server.core.messages import (
    Abort,
    AdapterLoaded,
    Classified,
    Embedded,
    Failed,
    ForgetAdapter,
    Generate,
    LoadAdapter,
    TokenOutput,
)
from headmix_server.core.runner import AdapterLoadError, Batch, RowResult, Sampled
from headmix_server.core.types import AdapterRef, FinishReason, TokenCounts
from headmix_server.engine.fake_runner import FakeAdapter, fake_probs, fake_vector
from headmix_server.engine.loop import MAX_FAILED_STEPS, EngineBrokenError
from tests.server.engine.conftest import MakeBench

A, B, C2 = adapter("a"), adapter("b"), adapter("c2")


# --- ends --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ref", [None, A])
def test_a_generation_ends_at_its_length(make_bench: MakeBench, ref: AdapterRef | None) -> None:
    bench = make_bench()
    message = generate("r", [1, 2, 3], ref, max_tokens=7)
    bench.submit(message)
    bench.drain()
    bench.assert_answered(message)
    assert len(bench.tokens("r")) == 7


def test_stop_tokens_and_eos_end_a_generation_and_eos_can_be_ignored(make_bench: MakeBench) -> None:
    message = generate("plain", [1, 2, 3], A, max_tokens=9)
    tokens, _ = expected_generation(message, range(1000))
    bench = make_bench(eos_ids=frozenset({tokens[4]}))
    bench.submit(
        message,
        generate("stop", [1, 2, 3], A, max_tokens=9, stop_token_ids=(tokens[2],)),
        generate("ignored", [1, 2, 3], A, max_tokens=9, ignore_eos=True),
    )
    bench.drain()
    lengths = {name: len(bench.tokens(name)) for name in ("plain", "stop", "ignored")}
    assert lengths == {"plain": 5, "stop": 3, "ignored": 9}
    end = bench.terminal("stop")
    assert isinstance(end, TokenOutput)
    assert end.finish_reason is FinishReason.STOP


def test_a_classification_is_answered_once_with_one_score_a_label(make_bench: MakeBench) -> None:
    bench = make_bench(max_batch_tokens=4)
    bench.submit(classify("r", [1] * 10, C2))
    bench.drain()
    end = bench.terminal("r")
    assert isinstance(end, Classified)
    assert tuple(end.probs) == fake_probs(C2.digest, (1,) * 10, 2)
    assert len(bench.outputs["r"]) == 1


@pytest.mark.parametrize("ref", [None, A, C2], ids=["base", "generator", "classifier"])
def test_an_embedding_is_answered_once_with_its_vector(make_bench: MakeBench, ref: AdapterRef | None) -> None:
    bench = make_bench(max_batch_tokens=4)
    message = embed("r", [1] * 10, ref)
    bench.submit(message)
    bench.drain()
    end = bench.terminal("r")
    assert isinstance(end, Embedded)
    assert tuple(end.vector) == fake_vector(None if ref is None else ref.digest, (1,) * 10, message.params)
    assert len(bench.outputs["r"]) == 1


def test_requests_join_and_leave_at_any_step_without_touching_the_others(make_bench: MakeBench) -> None:
    bench = make_bench()
    messages = [generate(f"r{n}", [n] * (1 + n % 5), (None, A, B)[n % 3], max_tokens=2 + n % 6) for n in range(20)]
    for n, message in enumerate(messages):
        bench.submit(message, generate(f"leaves{n}", [n], A, max_tokens=50))
        bench.step()
        bench.engine.abort(Abort(request_id=f"leaves{n // 2}"))
    for n in range(20):
        bench.engine.abort(Abort(request_id=f"leaves{n}"))
    bench.drain()
    bench.assert_answered(*messages)


def test_the_time_in_the_queue_is_told_with_the_first_output(make_bench: MakeBench) -> None:
    bench = make_bench(max_running=1)
    bench.submit(generate("first", [1], max_tokens=2), generate("second", [2], max_tokens=2))
    bench.now = 1.5
    bench.step(2)
    bench.now = 4.0
    bench.drain()
    queued = [o.queue_seconds for o in bench.outputs["second"] if isinstance(o, TokenOutput)]
    assert queued == [4.0, None]


# --- refusals ----------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_what_waits_is_still_served(make_bench: MakeBench) -> None:
    bench = make_bench(max_waiting=2)
    bench.submit(*(generate(f"r{n}", [n]) for n in range(3)))
    bench.drain()
    assert bench.failure("r2") == "server_overloaded"
    bench.assert_answered(generate("r0", [0]), generate("r1", [1]))


@pytest.mark.parametrize("limits", [{"max_model_len": 12}, {"kv_blocks": 3}])
def test_a_request_longer_than_the_context_is_refused(make_bench: MakeBench, limits: dict[str, int]) -> None:
    bench = make_bench(**limits)
    fits = generate("fits", [1] * 8, max_tokens=4)
    bench.submit(fits, generate("long", [1] * 9, max_tokens=4), classify("text", [1] * 13, C2))
    bench.drain()
    assert bench.failure("long") == bench.failure("text") == "context_length_exceeded"
    bench.assert_answered(fits)


@pytest.mark.parametrize(
    "message", [generate("r", []), classify("r", [], C2), embed("r", []), generate("r", [1], max_tokens=0)]
)
def test_a_request_without_work_is_refused(make_bench: MakeBench, message: object) -> None:
    bench = make_bench()
    bench.submit(message)  # type: ignore[arg-type]  # parametrized over both request types
    bench.drain()
    assert bench.failure("r") == "invalid_request_error"


def test_a_request_id_in_use_is_refused_and_the_first_goes_on(make_bench: MakeBench) -> None:
    bench = make_bench()
    first = generate("r", [1, 2])
    bench.submit(first, generate("r", [3]), load("r", A))
    bench.drain()
    refusals = [o for o in bench.outputs["r"] if isinstance(o, Failed)]
    assert [o.message for o in refusals] == ["this request id is in use"] * 2
    assert bench.tokens("r") == expected_generation(first, bench.token_range)[0]


# --- aborts ------------------------------------------------------------------------------------------------------


def test_an_abort_while_running_waiting_or_loading_frees_everything_and_is_silent(make_bench: MakeBench) -> None:
    bench = make_bench(max_running=1)
    bench.warm(A)
    gate = bench.disk.gate(B)
    bench.submit(generate("running", [1] * 6, A, max_tokens=90), generate("loading", [2], B), generate("waits", [3]))
    bench.submit(load("load", B))
    bench.run_until(lambda: len(bench.tokens("running")) == 3)
    for request_id in ("running", "loading", "waits", "load", "unknown"):
        bench.engine.abort(Abort(request_id=request_id))
        bench.engine.check_integrity()
    gate.set()
    bench.drain()
    assert len(bench.outputs["running"]) == 3
    assert [bench.outputs[name] for name in ("loading", "waits", "load")] == [[], [], []]


def test_an_abort_takes_back_what_was_about_to_be_said(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.submit(generate("r", []))
    bench.engine.abort(Abort(request_id="r"))
    bench.drain()
    assert bench.outputs["r"] == []


# --- accounts ----------------------------------------------------------------------------------------------------


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


def test_a_failure_tells_what_had_been_computed_and_not_what_the_failed_step_would_have(make_bench: MakeBench) -> None:
    left, hold = failing(0)
    bench = make_bench(hold=hold, max_batch_tokens=4)
    bench.submit(generate("r", [1] * 10))
    bench.step()
    left[0] = 1
    bench.drain()
    failed = bench.terminal("r")
    assert isinstance(failed, Failed)
    assert failed.counts == TokenCounts(prompt=4)


def test_prompt_tokens_found_in_the_cache_are_told_apart(make_bench: MakeBench) -> None:
    bench = make_bench(max_batch_tokens=8)
    prompt = [1, 2, 3, 4, 5, 6, 7, 8]
    bench.submit(generate("first", prompt, max_tokens=1))
    bench.drain()
    bench.submit(generate("second", [*prompt, 9, 10], max_tokens=9))
    bench.step()
    bench.engine.abort(Abort(request_id="second"))
    bench.drain()
    assert bench.accounts["second"] == [TokenCounts(prompt=10, cached=8, generated=1)]


# --- failures ----------------------------------------------------------------------------------------------------


def failing(times: int) -> tuple[list[int], object]:
    """Return a counter of failures left and a hook that raises while there are any."""
    left = [times]

    def hold(batch: Batch) -> None:
        if left[0]:
            left[0] -= 1
            raise RuntimeError("the device hiccups")

    return left, hold


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
    [(AdapterLoadError("its file is gone", missing=True), "model_not_found"), (OSError("disk"), "internal_error")],
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


# --- in flight ---------------------------------------------------------------------------------------------------


def test_an_abort_in_flight_gives_back_blocks_and_lease_only_after_landing(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.warm(A)
    bench.submit(generate("leaves", [1] * 6, A), generate("stays", [2] * 6, A))
    bench.begin()
    accounts = bench.engine.scheduler.kv_cache, bench.engine.tiers.slots
    held = accounts[0].num_free, accounts[1].lease_counts()
    bench.engine.abort(Abort(request_id="leaves"))
    bench.engine.check_integrity()
    assert (accounts[0].num_free, accounts[1].lease_counts()) == held
    bench.finish()
    assert accounts[0].num_free == held[0] + 2
    assert accounts[1].lease_counts() == {A.digest: 1}
    bench.drain()
    assert bench.outputs["leaves"] == []
    assert len(bench.tokens("stays")) == 4


def test_an_id_aborted_in_flight_may_be_used_again_before_landing(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.submit(generate("r", [1]))
    bench.begin()
    bench.engine.abort(Abort(request_id="r"))
    again = generate("r", [2])
    bench.submit(again)
    bench.drain()
    bench.assert_answered(again)


def test_a_queued_request_aborted_in_flight_makes_room_in_the_queue_at_once(make_bench: MakeBench) -> None:
    bench = make_bench(max_running=1, max_waiting=1)
    bench.submit(generate("running", [1]))
    bench.begin()
    bench.submit(generate("queued", [2]))
    bench.engine.abort(Abort(request_id="queued"))
    last = generate("last", [3])
    bench.submit(last)
    bench.drain()
    bench.assert_answered(last)


@pytest.mark.parametrize("message", [generate("cold", [2], A), load("cold", A)], ids=["generate", "load"])
def test_a_cold_adapter_loads_while_a_step_computes(make_bench: MakeBench, message: Generate | LoadAdapter) -> None:
    opened = threading.Event()
    bench = make_bench()
    bench.disk.on_open = opened.set
    bench.submit(generate("running", [1]))
    bench.begin()
    bench.submit(message)
    assert opened.wait(GIVE_UP_SECONDS)
    assert bench.engine.tiers.slots.digests() == []
    bench.drain()
    assert bench.disk.opened == ["a"]


def test_forgetting_in_flight_leaves_the_slot_until_landing(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.warm(A)
    bench.submit(generate("running", [1]))
    bench.begin()
    bench.engine.forget(ForgetAdapter(digest=A.digest))
    assert bench.engine.tiers.slots.digests() == [A.digest]
    bench.finish()
    assert bench.engine.tiers.slots.digests() == []


def test_shutting_down_in_flight_answers_at_once_and_leaves_nothing(make_bench: MakeBench) -> None:
    bench = make_bench(max_running=1)
    bench.warm(A)
    bench.submit(generate("running", [1], A), generate("queued", [2]))
    bench.begin()
    outputs = bench.engine.shut_down("the server is shutting down")
    bench.engine.check_integrity()
    assert sorted(output.request_id for output in outputs) == ["queued", "running"]
    assert bench.engine.tiers.slots.lease_counts() == {A.digest: 1}
    bench.finish()
    assert bench.outputs["running"] == []
    bench.drain()


def test_a_step_that_fails_in_flight_says_nothing_to_who_has_left(make_bench: MakeBench) -> None:
    _, hold = failing(1)
    bench = make_bench(hold=hold)
    bench.submit(generate("leaves", [1]), generate("stays", [2]))
    bench.begin()
    bench.engine.abort(Abort(request_id="leaves"))
    bench.drain()
    assert bench.outputs["leaves"] == []
    assert bench.failure("stays") == "internal_error"


def test_nothing_can_land_that_is_not_in_flight(make_bench: MakeBench) -> None:
    with pytest.raises(RuntimeError, match="no step is in flight"):
        make_bench().engine.finish([])


# --- adapters ----------------------------------------------------------------------------------------------------


def test_a_load_is_answered_once_the_adapter_is_on_the_device(make_bench: MakeBench) -> None:
    bench = make_bench()
    gate = bench.disk.gate(A)
    bench.submit(load("r", A))
    bench.step(3)
    assert not bench.outputs["r"]
    bench.now = 2.0
    gate.set()
    bench.drain()
    assert bench.outputs["r"] == [AdapterLoaded(request_id="r", digest=A.digest, seconds=2.0)]
    assert bench.engine.tiers.slots.holds(A.digest)


def residents(bench: Bench) -> set[str]:
    return {*bench.engine.tiers.slots.digests(), *bench.engine.tiers.host.digests()}


def test_forgetting_waits_for_the_last_request_and_then_leaves_nothing(make_bench: MakeBench) -> None:
    bench = make_bench(max_running=1)
    bench.warm(A)
    messages = [generate("running", [1], A), generate("waiting", [2], A)]
    bench.submit(*messages)
    bench.step()
    bench.engine.forget(ForgetAdapter(digest=A.digest))
    bench.run_until(lambda: len(bench.tokens("waiting")) == 3)
    assert residents(bench) == {A.digest}
    bench.drain()
    bench.assert_answered(*messages)
    assert residents(bench) == set()


def test_forgetting_needs_no_request_to_happen(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.warm(A)
    bench.engine.forget(ForgetAdapter(digest=A.digest))
    bench.drain()
    assert residents(bench) == set()


def test_a_forgotten_adapter_that_is_asked_for_again_is_served(make_bench: MakeBench) -> None:
    bench = make_bench()
    first, again = generate("first", [1], A), generate("again", [1], A)
    bench.submit(first)
    bench.engine.forget(ForgetAdapter(digest=A.digest))
    bench.drain()
    bench.submit(again)
    bench.drain()
    bench.assert_answered(first, again)
    assert bench.disk.opened == ["a", "a"]
    assert residents(bench) == {A.digest}


def test_lookups_are_counted_once_a_request_however_long_it_waits(make_bench: MakeBench) -> None:
    bench = make_bench(adapter_slots=1, kv_blocks=6, max_model_len=24)
    bench.submit(*(generate(f"r{n}", [n] * 4, A, max_tokens=16) for n in range(3)))
    bench.drain()
    counts = bench.engine.tiers.take_counts()
    assert (sum(counts.hits.values()), counts.misses) == (0, {"device": 3, "host": 3})


# --- log-probabilities -------------------------------------------------------------------------------------------


def test_prompt_logprobs_come_once_with_the_first_token_across_chunks_and_preemption(make_bench: MakeBench) -> None:
    bench = make_bench(kv_blocks=6, max_model_len=24, max_batch_tokens=5)
    prompts = {"r0": range(9), "r1": range(10, 19), "r2": range(20, 29), "one": range(5, 6)}
    messages = [
        generate(name, list(prompt), A, max_tokens=12, prompt_logprobs=True, logprobs=0)
        for name, prompt in prompts.items()
    ]
    bench.submit(*messages)
    bench.drain()
    bench.assert_answered(*messages)
    assert sum(batch.num_tokens for batch in bench.batches) > 3 * (9 + 11) + 12
    for message in messages:
        outputs = [o for o in bench.outputs[message.request_id] if isinstance(o, TokenOutput)]
        first, *later = [o.prompt_logprobs for o in outputs]
        assert first is not None
        assert [entry.token for entry in first] == message.prompt[1:]
        assert later == [None] * len(later)


def test_logprobs_go_with_every_token_where_asked_for(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.submit(generate("with", [1], logprobs=2), generate("without", [1]))
    bench.drain()
    for output in bench.outputs["with"]:
        assert isinstance(output, TokenOutput)
        assert [entry.token for entry in output.logprobs or ()] == output.tokens
    assert all(isinstance(o, TokenOutput) and o.logprobs is None for o in bench.outputs["without"])


# --- state -------------------------------------------------------------------------------------------------------


def test_the_engine_is_stalled_only_while_nothing_but_a_load_can_help(make_bench: MakeBench) -> None:
    bench = make_bench()
    gate = bench.disk.gate(A)
    bench.submit(generate("cold", [1], A))
    stalled = [bench.engine.stalled]
    bench.step()
    stalled.append(bench.engine.stalled)
    bench.submit(generate("base", [1]))
    stalled.append(bench.engine.stalled)
    gate.set()
    bench.drain()
    stalled.append(bench.engine.stalled)
    assert stalled == [False, True, False, False]


def test_integrity_sees_a_request_nobody_schedules(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.submit(generate("r", [1]))
    bench.engine.scheduler.waiting.remove(0)
    with pytest.raises(RuntimeError, match="open requests"):
        bench.engine.check_integrity()
