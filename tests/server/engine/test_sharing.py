"""Tenants sharing one engine: budget, cache, slots, loads and the queue are each shared, and none is wasted."""

import pytest

from harness.engine.engines import Bench, adapter, generate
from headmix_server.core.messages import Failed, Generate
from headmix_server.engine.residency.recent_tenants import PRESENCE_SECONDS
from headmix_server.engine.scheduling.backfill import FIT_PATIENCE_SECONDS
from headmix_server.engine.scheduling.sampling_cost import (
    ALTERNATIVE_COST,
    HISTORY_COST,
    LOGPROB_COST,
    PROMPT_LOGPROB_COST,
)
from tests.server.engine.conftest import MakeBench

MINE = adapter("mine")


def rows(bench: Bench) -> list[tuple[int, int]]:
    return [(row.sequence_id, row.count) for row in bench.batches[-1].rows]


# --- budget ------------------------------------------------------------------------------------------------------


def test_a_long_prompt_does_not_keep_the_budget_from_another_tenants_short_one(make_bench: MakeBench) -> None:
    bench = make_bench(max_batch_tokens=8)
    bench.submit(generate("long", [1] * 60, tenant="heavy"))
    bench.step()
    bench.submit(generate("short", [2] * 4, tenant="light"))
    bench.step()
    assert rows(bench) == [(0, 8)]  # both have had the same: the first to arrive continues
    bench.step()
    assert rows(bench) == [(1, 4), (0, 4)]


def charged(bench: Bench, tenant: str) -> float:
    return bench.engine._counters.counter(tenant)


def test_a_tenant_pays_for_each_prompt_token_once_however_often_it_is_computed(make_bench: MakeBench) -> None:
    bench = make_bench(kv_blocks=6, max_model_len=24, prefix_cache=False)
    bench.submit(*(generate(f"r{n}", [n] * 4, max_tokens=16) for n in range(3)))
    bench.drain()
    assert sum(batch.num_tokens for batch in bench.batches) > 3 * (4 + 15)
    assert charged(bench, "t") == 3 * (4 + 2 * 16)


def test_a_tenant_pays_for_log_probabilities_and_penalties_with_their_tokens(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(kv_blocks=6, max_model_len=24, prefix_cache=False)  # some are preempted, and pay once
    for n in range(3):
        name = f"r{n}"
        bench.submit(generate(name, [n] * 4, max_tokens=16, logprobs=5, prompt_logprobs=True, frequency_penalty=0.5))
    bench.drain()
    prompt = 4 * (1 + PROMPT_LOGPROB_COST + 5 * ALTERNATIVE_COST)
    history = HISTORY_COST * sum(range(4, 20))
    answer = 16 * (2 + LOGPROB_COST + 5 * ALTERNATIVE_COST) + history
    assert charged(bench, "t") == pytest.approx(3 * (prompt + answer))


def test_a_tenant_pays_nothing_for_what_the_prefix_cache_had(make_bench: MakeBench) -> None:
    bench = make_bench()
    for name in ("first", "again"):
        bench.submit(generate(name, [1] * 9))
        bench.drain()
    assert charged(bench, "t") == (9 + 2 * 4) + (1 + 2 * 4)


def test_the_tenant_that_has_had_most_gives_way_when_the_cache_is_full(make_bench: MakeBench) -> None:
    bench = make_bench(kv_blocks=8, max_model_len=24, prefix_cache=False)
    bench.submit(*(generate(f"h{n}", [n] * 4, tenant="heavy", max_tokens=10) for n in range(2)))
    bench.step()
    light = generate("light", [9] * 4, tenant="light", max_tokens=10)
    bench.submit(light)
    bench.drain()
    starts = [row.sequence_id for batch in bench.batches for row in batch.rows if row.start == 0]
    assert starts.count(0) == starts.count(2) == 1
    assert starts.count(1) > 1
    bench.assert_answered(light)


# --- cache -------------------------------------------------------------------------------------------------------


def full_but_for_a_corner(make_bench: MakeBench) -> Bench:
    """Return an engine whose cache is filled by a long request and has no room for the other tenant's large one."""
    bench = make_bench(kv_blocks=16, max_model_len=64)
    bench.submit(generate("running", [1] * 24, tenant="heavy", max_tokens=20))
    bench.step()
    bench.submit(generate("large", [2] * 50, tenant="light", max_tokens=4))
    bench.step()
    return bench


def test_another_tenant_uses_what_a_request_that_does_not_fit_leaves(make_bench: MakeBench) -> None:
    bench = full_but_for_a_corner(make_bench)
    bench.submit(generate("small", [3] * 4, tenant="heavy"))
    bench.step()
    assert len(bench.tokens("small")) == 1
    assert not bench.tokens("large")
    bench.drain()


def test_a_request_that_does_not_fit_is_overtaken_for_a_while_only(make_bench: MakeBench) -> None:
    bench = full_but_for_a_corner(make_bench)
    bench.now += FIT_PATIENCE_SECONDS
    bench.submit(generate("small", [3] * 4, tenant="heavy"))
    for _ in range(30):
        bench.step()
        if bench.tokens("large"):
            break
        assert not bench.tokens("small")
    assert bench.tokens("large")
    bench.drain()


def test_overtaking_ends_where_it_would_break_the_bound_on_service(make_bench: MakeBench) -> None:
    bench = full_but_for_a_corner(make_bench)
    gap = 0.0
    for n in range(200):
        bench.submit(generate(f"small{n}", [n % 99] * 4, tenant="heavy", max_tokens=2))
        bench.step()
        if bench.tokens("large"):
            break
        gap = charged(bench, "heavy") - charged(bench, "light")
    assert gap <= 2 * 64
    bench.drain()


# --- slots -------------------------------------------------------------------------------------------------------


def cycle(bench: Bench, count: int, *, beside: Generate | None = None) -> None:
    """Make tenant "cycler" use `count` adapters one after another; after each, `beside`'s must still be loaded."""
    for n in range(count):
        bench.submit(generate(f"x{n}", [n], adapter(f"x{n}"), tenant="cycler", max_tokens=1))
        bench.run_until(lambda n=n: bool(bench.outputs[f"x{n}"]))  # type: ignore[misc]  # bound at definition
        if beside is not None and beside.adapter is not None:
            assert bench.engine.tiers.slots.holds(beside.adapter.digest)


def test_a_tenant_cycling_500_adapters_evicts_nobody_elses(make_bench: MakeBench) -> None:
    bench = make_bench(adapter_slots=4, host_adapters=4)
    mine = generate("mine", [1], MINE, tenant="quiet")
    bench.submit(mine)
    bench.drain()
    cycle(bench, 500, beside=mine)
    assert MINE.digest in bench.engine.tiers.host
    assert bench.disk.opened.count("mine") == 1
    assert len(bench.disk.opened) == 501


def test_a_tenant_alone_uses_every_slot_and_gives_back_what_another_needs(make_bench: MakeBench) -> None:
    bench = make_bench(adapter_slots=4)
    cycle(bench, 6)
    held = {adapter(f"x{n}").digest for n in range(2, 6)}
    assert set(bench.engine.tiers.slots.digests()) == held
    bench.submit(*(generate(f"q{n}", [1], adapter(f"q{n}"), tenant="quiet") for n in range(2)))
    bench.drain()
    assert len(held & set(bench.engine.tiers.slots.digests())) == 2


def test_the_slots_of_a_tenant_long_silent_are_anybodys(make_bench: MakeBench) -> None:
    bench = make_bench(adapter_slots=2)
    bench.submit(generate("mine", [1], MINE, tenant="quiet"))
    bench.drain()
    bench.now += PRESENCE_SECONDS + 1
    cycle(bench, 2)
    assert not bench.engine.tiers.slots.holds(MINE.digest)


def test_a_tenant_that_waits_for_a_slot_keeps_newcomers_from_no_adapter_it_may_not_evict(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(adapter_slots=2)
    quiet = generate("quiet", [1], MINE, tenant="quiet", max_tokens=60)
    bench.submit(quiet, generate("x0", [1], adapter("x0"), tenant="cycler", max_tokens=60))
    bench.run_until(lambda: bool(bench.tokens("quiet") and bench.tokens("x0")))
    bench.submit(generate("x1", [1], adapter("x1"), tenant="cycler"))
    bench.run_until(lambda: bench.engine.tiers.num_loading == 0)
    bench.now += 1.0
    bench.step()
    bench.submit(generate("more", [2], MINE, tenant="quiet"), generate("late", [2], adapter("x0"), tenant="cycler"))
    bench.step(2)
    assert bench.tokens("more")
    assert not bench.tokens("late")
    bench.drain()


# --- loads -------------------------------------------------------------------------------------------------------


def test_one_tenants_500_cold_adapters_delay_anothers_by_no_more_than_the_loads_in_progress(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(loader_threads=1, max_waiting=1000)
    gate = bench.disk.gate(adapter("x0"))
    bench.submit(*(generate(f"x{n}", [n], adapter(f"x{n}"), tenant="cycler") for n in range(500)))
    bench.step()
    bench.submit(generate("mine", [1], MINE, tenant="quiet"))
    bench.step()
    gate.set()
    bench.run_until(lambda: bool(bench.outputs["mine"]))
    assert bench.disk.opened.index("mine") <= 2


# --- the queue ---------------------------------------------------------------------------------------------------


def test_a_flood_of_one_tenant_does_not_close_the_queue_to_others(make_bench: MakeBench) -> None:
    bench = make_bench(max_running=1, max_waiting=4)
    running = generate("running", [1], tenant="flood")
    bench.submit(running)
    bench.step()
    bench.submit(*(generate(f"f{n}", [n], tenant="flood") for n in range(10)))
    polite = [generate(f"p{n}", [n], tenant="polite") for n in range(2)]
    bench.submit(*polite, generate("p2", [9], tenant="polite"))
    bench.drain()
    failed = {name: o[-1].code for name, o in bench.outputs.items() if isinstance(o[-1], Failed)}
    assert failed == dict.fromkeys([*(f"f{n}" for n in range(2, 10)), "p2"], "server_overloaded")
    bench.assert_answered(running, *polite, *(generate(f"f{n}", [n]) for n in range(2)))


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_no_share_fails_its_request_alone(make_bench: MakeBench, weight: float) -> None:
    bench = make_bench()
    good = generate("good", [1])
    bench.submit(generate("bad", [1], weight=weight), good)
    bench.drain()
    assert bench.failure("bad") == "internal_error"
    bench.assert_answered(good)


def test_counters_of_tenants_that_are_gone_are_forgotten(make_bench: MakeBench) -> None:
    bench = make_bench()
    for n in range(1000):
        bench.submit(generate(f"r{n}", [1], tenant=f"t{n}", max_tokens=1))
        bench.step()
    assert len(bench.engine._counters) < 200
