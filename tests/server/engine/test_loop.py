"""What the engine promises each request: exactly one end, the right tokens, and no effect from others' failures."""

import pytest

from harness.engine.engines import Bench, adapter, classify, embed, expected_generation, generate, load
from headmix_server.core.messages import (
    Abort,
    AdapterLoaded,
    Classified,
    Embedded,
    Failed,
    ForgetAdapter,
    TokenOutput,
)
from headmix_server.core.types import AdapterRef, FinishReason
from headmix_server.engine.fake_runner import fake_probs, fake_vector
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


def test_the_time_in_the_queue_is_reported_with_the_first_output(make_bench: MakeBench) -> None:
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
