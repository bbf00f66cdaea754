"""Requests with several adapters: all leases or none, answered whatever else wants slots, and nobody waits forever."""

from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest

from harness.engine.engines import LIMITS, Bench, adapter, classify, embed, generate, load
from headmix_server.core.messages import Abort, Classified, Embedded, ForgetAdapter, LoadAdapter
from headmix_server.core.runner import AdapterLoadError
from headmix_server.engine.fake_runner import fake_probs, fake_vector
from headmix_server.engine.scheduling.adapter_admission import SLOT_PATIENCE_SECONDS
from headmix_server.engine.scheduling.gathering import NO_ROOM

A, B, C, D, E = (adapter(name) for name in "abfde")
C3 = adapter("c3")
PROMPT = list(range(1, 10))
TWO_SLOTS = replace(LIMITS, adapter_slots=2)
STEP_SECONDS = 0.1


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


@pytest.fixture
def tight() -> Iterator[Bench]:
    made = Bench(TWO_SLOTS)
    yield made
    made.close()


def step(bench: Bench, times: int = 1) -> None:
    for _ in range(times):
        bench.now += STEP_SECONDS
        bench.step()


def test_each_kind_of_request_is_computed_with_all_its_adapters(bench: Bench) -> None:
    generation = generate("g", PROMPT, A, scale=0.7, beside=[(B, 0.3), (C, -1.0)])
    text = classify("c", PROMPT, C3, beside=[(A, 2.0)])
    vector = embed("e", PROMPT, A, scale=0.5)
    bench.submit(generation, text, vector)
    bench.drain()
    bench.assert_answered(generation)
    classified, embedded = bench.terminal("c"), bench.terminal("e")
    assert isinstance(classified, Classified)
    assert tuple(classified.probs) == fake_probs(tuple(sorted([(C3.digest, 1.0), (A.digest, 2.0)])), tuple(PROMPT), 3)
    assert isinstance(embedded, Embedded)
    assert tuple(embedded.vector) == fake_vector(((A.digest, 0.5),), tuple(PROMPT), vector.params)


def test_a_running_request_has_a_lease_for_each_adapter_and_returns_them_all(bench: Bench) -> None:
    bench.warm(A, B)
    bench.submit(generate("r", PROMPT, A, beside=[(B, 0.5)]), generate("alone", PROMPT, B))
    bench.step()
    assert bench.engine.tiers.slots.lease_counts() == {A.digest: 1, B.digest: 2}
    assert bench.batches[-1].distinct_adapters == 2
    bench.engine.abort(Abort(request_id="r"))
    assert bench.engine.tiers.slots.lease_counts() == {B.digest: 1}
    bench.drain()


def test_the_cache_is_shared_by_requests_with_the_same_adapters_and_scales_in_any_order(bench: Bench) -> None:
    requests = [
        generate("first", PROMPT, A, scale=0.7, beside=[(B, 0.3)]),
        generate("turned", PROMPT, B, scale=0.3, beside=[(A, 0.7)]),
        generate("other scales", PROMPT, A, scale=0.3, beside=[(B, 0.7)]),
        generate("other tenant", PROMPT, A, tenant="u", scale=0.7, beside=[(B, 0.3)]),
        generate("alone", PROMPT, A),
        generate("scaled", PROMPT, A, scale=0.7),
        generate("base", PROMPT),
    ]
    cached = {}
    for request in requests:
        bench.submit(request)
        bench.drain()
        bench.assert_answered(request)
        cached[request.request_id] = bench.outputs[request.request_id][0].cached_tokens  # type: ignore[union-attr]
    assert cached == dict.fromkeys(cached, 0) | {"turned": 8}


def test_a_forgotten_adapter_takes_the_prefixes_with_it_that_it_had_a_part_in(bench: Bench) -> None:
    bench.submit(generate("r", PROMPT, A, beside=[(B, 0.3)]), generate("a", PROMPT, A))
    bench.drain()
    bench.engine.forget(ForgetAdapter(digest=B.digest))
    bench.step()
    bench.submit(generate("again", PROMPT, A, beside=[(B, 0.3)]), generate("a again", PROMPT, A))
    bench.drain()
    assert bench.outputs["again"][0].cached_tokens == 0  # type: ignore[union-attr]
    assert bench.outputs["a again"][0].cached_tokens == 8  # type: ignore[union-attr]


def test_a_cold_adapter_delays_only_the_request_that_needs_it(bench: Bench) -> None:
    gate = bench.disk.gate(B)
    both, alone = generate("both", PROMPT, A, beside=[(B, 1.0)]), generate("alone", PROMPT, A)
    bench.submit(both, alone)
    bench.run_until(lambda: bool(bench.tokens("alone")))
    step(bench, 20)
    bench.assert_answered(alone)
    assert not bench.tokens("both")
    gate.set()
    bench.drain()
    bench.assert_answered(both)


def test_while_a_slow_adapter_is_awaited_others_still_get_slots(tight: Bench) -> None:
    gate = tight.disk.gate(B)
    both = generate("both", PROMPT, A, beside=[(B, 1.0)])
    tight.submit(both)
    step(tight, 20)
    others = [generate(f"r{number}", PROMPT, ref, tenant="u") for number, ref in enumerate([C, D, E, C, D])]
    tight.submit(*others)
    tight.run_until(lambda: all(tight.tokens(other.request_id) for other in others))
    step(tight, 10)
    tight.assert_answered(*others)
    gate.set()
    tight.drain()
    tight.assert_answered(both)


def test_an_adapter_that_cannot_be_loaded_fails_every_request_that_has_it(bench: Bench) -> None:
    bench.disk.faults["b"] = AdapterLoadError("its file is missing", missing=True)
    bench.submit(generate("both", PROMPT, A, beside=[(B, 1.0)]), generate("a", PROMPT, A))
    bench.drain()
    assert bench.failure("both") == "model_not_found"
    bench.assert_answered(generate("a", PROMPT, A))


def test_two_requests_that_each_hold_what_the_other_lacks_cannot_block_each_other(tight: Bench) -> None:
    pairs = [
        generate("ab", PROMPT, A, beside=[(B, 1.0)]),
        generate("cd", PROMPT, C, tenant="u", beside=[(D, 1.0)]),
        generate("ad", PROMPT, A, tenant="v", beside=[(D, 1.0)]),
    ]
    tight.warm(A, D)
    tight.submit(*pairs)
    tight.drain()
    tight.assert_answered(*pairs)


@pytest.mark.parametrize("tenant", ["t", "u"])
def test_a_pair_gets_its_turn_although_newcomers_keep_every_slot_busy(tight: Bench, tenant: str) -> None:
    tight.warm(C, D)
    number = 0

    def newcomers() -> None:
        nonlocal number
        for ref in (C, D, E):
            tight.submit(generate(f"n{number}", PROMPT, ref, tenant=tenant, max_tokens=6))
            number += 1

    newcomers()
    step(tight, 2)
    pair = generate("pair", PROMPT, A, beside=[(B, 1.0)])
    tight.submit(pair)
    for _ in range(200):
        if len(tight.engine.scheduler.waiting) < 30:
            newcomers()
        step(tight)
        if tight.tokens("pair"):
            break
    assert tight.tokens("pair")
    tight.drain()
    tight.assert_answered(pair)


def test_a_preempted_request_gets_all_its_leases_back() -> None:
    bench = Bench(replace(TWO_SLOTS, kv_blocks=8))
    requests = [
        generate(f"r{number}", PROMPT, A, tenant=tenant, beside=[(B, 0.5)], max_tokens=15)
        for number, tenant in enumerate("tuv")
    ]
    bench.submit(*requests)
    bench.drain()
    bench.assert_answered(*requests)
    assert len({row.sequence_id for batch in bench.batches for row in batch.rows if row.start == 0}) == 3
    assert sum(row.start == 0 for batch in bench.batches for row in batch.rows) > 3  # some began anew
    bench.close()


def test_adapters_that_do_not_fit_beside_a_pinned_one_are_refused_when_they_have_waited(tight: Bench) -> None:
    tight.submit(LoadAdapter(request_id="pin", adapter=E, pin=True))
    tight.drain()
    single = generate("single", PROMPT, A)
    tight.submit(generate("both", PROMPT, A, beside=[(B, 1.0)]), single)
    while not tight.outputs["both"]:
        assert tight.now < 100 * SLOT_PATIENCE_SECONDS
        step(tight)
    assert tight.failure("both") == "server_overloaded"
    assert tight.outputs["both"][0].message == NO_ROOM  # type: ignore[union-attr]
    tight.drain()
    tight.assert_answered(single)


def test_a_pinned_adapter_may_be_one_of_several(tight: Bench) -> None:
    tight.submit(LoadAdapter(request_id="pin", adapter=A, pin=True))
    tight.drain()
    both = generate("both", PROMPT, A, beside=[(B, 1.0)])
    tight.submit(both)
    tight.drain()
    tight.assert_answered(both)


def test_bytes_that_never_fit_together_are_refused_too() -> None:
    bench = Bench(replace(LIMITS, device_adapter_bytes=5))
    bench.disk.sizes = {"a": 3, "b": 3}
    single = generate("single", PROMPT, B)
    bench.submit(generate("both", PROMPT, A, beside=[(B, 1.0)]), single)
    while not bench.outputs["both"]:
        assert bench.now < 100 * SLOT_PATIENCE_SECONDS
        step(bench)
    assert bench.failure("both") == "server_overloaded"
    bench.drain()
    bench.assert_answered(single)
    bench.close()


@pytest.mark.parametrize("background", [False, True], ids=["foreground", "background"])
def test_a_pair_is_loaded_although_adapters_that_wait_for_its_slots_take_every_load_ahead(background: bool) -> None:
    bench = Bench(replace(TWO_SLOTS, device_adapter_bytes=5))
    bench.disk.sizes = {"a": 5}
    busy = generate("busy", PROMPT, A, max_tokens=30)
    bench.submit(busy)
    bench.run_until(lambda: bool(bench.tokens("busy")))
    others = [generate(f"r{number}", PROMPT, ref, background=background) for number, ref in enumerate([C, D, E, C3])]
    bench.submit(*others)
    bench.run_until(lambda: not bench.engine.tiers.num_loading)  # all loaded, none has room beside A
    pair = generate("pair", PROMPT, A, beside=[(B, 1.0)])
    bench.submit(pair)
    for _ in range(200):
        step(bench)
    bench.drain()
    bench.assert_answered(busy, pair, *others)
    bench.close()


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_pair_is_loaded_although_what_waits_for_its_slots_takes_all_bytes_for_loads_ahead(size: int) -> None:
    bench = Bench(replace(TWO_SLOTS, device_adapter_bytes=9, host_adapter_bytes=24, host_adapters=1))
    bench.disk.sizes = {"a": 8, "b": 1} | dict.fromkeys("fde", 4)
    small = msgspec.structs.replace(B, size_bytes=size)
    busy = generate("busy", PROMPT, A, max_tokens=30)
    bench.submit(busy)
    bench.run_until(lambda: bool(bench.tokens("busy")))
    others = [
        generate(f"r{number}", PROMPT, msgspec.structs.replace(ref, size_bytes=1))
        for number, ref in enumerate([C, D, E])
    ]
    bench.submit(*others)
    bench.run_until(lambda: not bench.engine.tiers.num_loading)
    pair = generate("pair", PROMPT, A, beside=[(small, 1.0)])
    bench.submit(pair)
    for _ in range(200):
        step(bench)
    bench.drain()
    bench.assert_answered(busy, pair, *others)
    bench.close()


def test_more_adapters_than_slots_are_refused_at_once(tight: Bench) -> None:
    tight.submit(generate("three", PROMPT, A, beside=[(B, 1.0), (C, 1.0)]))
    tight.step()
    assert tight.failure("three") == "invalid_request_error"


def test_a_load_and_a_pair_want_the_same_slots_and_both_get_them(tight: Bench) -> None:
    tight.warm(C, D)
    busy = generate("busy", PROMPT, C, max_tokens=20)
    tight.submit(busy)
    step(tight, 2)
    pair = generate("pair", PROMPT, A, beside=[(B, 1.0)])
    tight.submit(pair, load("load", E))
    for _ in range(100):
        step(tight)
    assert tight.engine.idle
    tight.assert_answered(busy, pair)
    tight.terminal("load")
