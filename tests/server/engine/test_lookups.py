"""What a request's arrival does to adapters and shares: each is looked up, kept and charged under its own name."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from harness.engine.engines import LIMITS, Bench, adapter, classify, embed, generate, load
from headmix_server.core.messages import Abort, Classified, Embedded, Failed, ForgetAdapter, TokenOutput
from headmix_server.core.types import Residency
from headmix_server.engine.report import make_report
from headmix_server.engine.sequence import Sequence

A, B, C, D, E = (adapter(name) for name in "abcde")


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    changes: dict[str, Any] = getattr(request, "param", {})
    bench = Bench(replace(LIMITS, **changes))
    yield bench
    bench.close()


@pytest.mark.parametrize("bench", [{"max_running": 1}], indirect=True)
def test_the_weight_of_a_request_is_its_own_tenants(bench: Bench) -> None:
    for number in range(8):
        bench.submit(
            generate(f"light-{number}", [1, 2], tenant="light", weight=1.0),
            generate(f"heavy-{number}", [1, 2], tenant="heavy", weight=3.0),
        )
    bench.run_until(lambda: sum(map(bool, map(bench.tokens, list(bench.outputs)))) >= 8)
    served = [name for name in bench.outputs if bench.tokens(name)][:8]
    assert sum(name.startswith("heavy") for name in served) == 6
    bench.drain()


def test_an_adapter_that_is_forgotten_and_named_again_stays(bench: Bench) -> None:
    bench.warm(A)
    bench.submit(generate("holds", [1], A))
    bench.step()
    bench.engine.forget(ForgetAdapter(digest=A.digest))
    bench.submit(generate("again", [1, 2], A))
    bench.drain()
    assert bench.engine.tiers.slots.holds(A.digest)


def test_lookups_are_counted_where_the_adapter_is_found(bench: Bench) -> None:
    bench.warm(A)
    bench.engine.tiers.take_counts()
    bench.submit(generate("warm", [1], A), generate("cold", [1], B))
    counts = bench.engine.tiers.take_counts()
    assert counts.hits[Residency.DEVICE] == 1
    assert counts.misses[Residency.DEVICE] == counts.misses[Residency.HOST] == 1
    bench.drain()


@pytest.mark.parametrize("bench", [{"host_adapters": 1}], indirect=True)
def test_an_adapter_on_the_device_is_not_read_from_disk_again(bench: Bench) -> None:
    bench.warm(A, B)
    bench.submit(generate("r", [1], A), generate("s", [1], B))
    bench.drain()
    assert sorted(bench.disk.opened) == ["a", "b"]


@pytest.mark.parametrize("bench", [{"adapter_slots": 1}], indirect=True)
def test_a_load_from_host_memory_reports_how_long_it_took(bench: Bench) -> None:
    bench.warm(A)
    bench.warm(B)
    bench.engine.tiers.take_counts()
    bench.warm(A)
    (report,) = bench.engine.tiers.take_counts().loads
    assert report.source is Residency.HOST
    assert report.seconds >= 0


@pytest.mark.parametrize("bench", [{"adapter_slots": 4}], indirect=True)
def test_a_tenant_with_its_share_makes_room_from_its_own_though_others_were_used_longer_ago(bench: Bench) -> None:
    for ref, tenant in ((A, "other"), (B, "other"), (C, "mine"), (D, "mine"), (E, "mine")):
        bench.submit(generate(ref.name, [1], ref, tenant=tenant))
        bench.drain()
    assert [bench.engine.tiers.slots.holds(ref.digest) for ref in (A, B, E)] == [True, True, True]


def test_an_abort_is_news_while_nothing_but_a_load_is_waited_for(bench: Bench) -> None:
    gate = bench.disk.gate(A)
    bench.submit(generate("r", [1], A))
    bench.step(2)
    before = bench.engine.stalled
    bench.engine.abort(Abort(request_id="r"))
    assert (before, bench.engine.stalled) == (True, False)
    gate.set()
    bench.drain()


def test_a_load_under_a_request_id_in_use_fails_with_a_code_that_exists(bench: Bench) -> None:
    bench.submit(generate("r", [1]), load("r", A))
    bench.step()
    (failed,) = (output for output in bench.outputs["r"] if isinstance(output, Failed))
    assert failed.code == "internal_error"
    assert failed.message == "this request id is in use"


def test_a_prompt_that_ends_in_a_stop_token_has_not_ended() -> None:
    message = generate("r", [5, 7], stop_token_ids=(7,))
    assert Sequence.from_message(0, message, 0.0).finish_reason(frozenset({7})) is None


def test_every_kind_of_answer_reports_how_long_it_was_queued(bench: Bench) -> None:
    head = adapter("c3x")
    bench.warm(head)
    bench.submit(generate("g", [1], max_tokens=1), classify("c", [1], head), embed("e", [1]))
    bench.now += 2.0
    bench.drain()
    for name in "gce":
        (output,) = bench.outputs[name]
        assert isinstance(output, TokenOutput | Classified | Embedded)
        assert output.queue_seconds == 2.0


def test_the_parts_of_a_step_take_no_longer_than_the_step(bench: Bench) -> None:
    bench.submit(generate("r", [1, 2], max_tokens=3))
    began = time.monotonic()
    bench.drain()
    elapsed = time.monotonic() - began
    for report in make_report(bench.engine).steps:
        parts = report.schedule_seconds, report.run_seconds, report.commit_seconds
        assert min(parts) >= 0
        assert sum(parts) <= elapsed


@pytest.mark.parametrize("bench", [{"max_batch_tokens": 8}], indirect=True)
def test_tenants_share_a_steps_budget_row_by_row(bench: Bench) -> None:
    for number in range(8):
        bench.submit(*(generate(f"{tenant}{number}", [1, 2], tenant=tenant) for tenant in "ab"))
    bench.step()
    assert len(bench.batches[0].rows) == 4
    assert [bool(bench.tokens(name)) for name in ("a0", "a1", "b0", "b1")] == [True] * 4
    bench.drain()


@pytest.mark.parametrize("bench", [{"kv_blocks": 6, "max_batch_tokens": 32}], indirect=True)
def test_nothing_starts_in_a_step_that_has_preempted_a_sequence(bench: Bench) -> None:
    bench.submit(*(generate(name, [1] * 8, max_tokens=12) for name in ("first", "second")))
    bench.run_until(lambda: bench.engine.scheduler.kv_cache.num_free == 0)
    bench.submit(generate("small", [1], max_tokens=2, tenant="other"))
    bench.run_until(lambda: len(bench.engine.scheduler.running) < 2)
    assert [len(batch.rows) for batch in bench.batches[-2:]] == [2, 1]
    assert bench.tokens("small") == []
    bench.drain()


def test_one_forgotten_adapter_that_still_loads_keeps_no_other(bench: Bench) -> None:
    others = [adapter(f"other-{number}") for number in range(4)]
    bench.warm(*others)
    gates = [bench.disk.gate(ref) for ref in (A, B)]
    bench.submit(generate("a", [1], A), generate("b", [1], B))
    for name in "ab":
        bench.engine.abort(Abort(request_id=name))
    for ref in (A, B, *others):
        bench.engine.forget(ForgetAdapter(digest=ref.digest))
    bench.step()
    assert bench.engine.tiers.slots.digests() == []
    for gate in gates:
        gate.set()
    bench.drain()


def test_a_load_is_news_while_nothing_but_another_load_is_waited_for(bench: Bench) -> None:
    gates = [bench.disk.gate(ref) for ref in (A, B)]
    bench.submit(load("a", A))
    bench.step(2)
    before = bench.engine.stalled
    bench.submit(load("b", B))
    assert (before, bench.engine.stalled) == (True, False)
    for gate in gates:
        gate.set()
    bench.drain()


@pytest.mark.parametrize("bench", [{"whole_prompts": True, "prefix_cache": False}], indirect=True)
def test_a_base_that_reads_whole_texts_refuses_to_generate_and_embeds(bench: Bench) -> None:
    bench.submit(generate("g", [1, 2]), embed("e", [1, 2]))
    bench.drain()
    assert bench.failure("g") == "task_mismatch"
    assert isinstance(bench.terminal("e"), Embedded)


@pytest.mark.parametrize("bench", [{"kv_blocks": 6}], indirect=True)
def test_who_was_admitted_first_of_all_never_gives_way_though_its_tenant_has_had_most(bench: Bench) -> None:
    bench.submit(generate("first", [1] * 10, tenant="much", max_tokens=14))
    bench.step()
    bench.submit(generate("second", [1] * 2, tenant="little", max_tokens=14))
    while bench.engine.scheduler.running or bench.engine.scheduler.waiting:
        bench.step()
        waiting = [sequence.request_id for sequence in bench.engine.scheduler.waiting.values()]
        assert "first" not in waiting
    bench.drain()
