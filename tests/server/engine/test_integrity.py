"""`check_integrity` recomputes everything that is maintained incrementally, so that no account can drift unnoticed."""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest

from harness.engine.engines import Bench, adapter, generate
from headmix_server.engine.fake_runner import FakeAdapter
from headmix_server.engine.residency.recent_tenants import PRESENCE_SECONDS
from headmix_server.engine.residency.tenant_shares import TenantShares, _Sharers
from headmix_server.engine.scheduling.virtual_counters import INPUT_COST, OUTPUT_COST
from tests.server.engine.conftest import MakeBench

A, B, C = (adapter(name) for name in "abc")
NEW = FakeAdapter("new")
BLOCK = 4


@pytest.fixture
def bench(make_bench: MakeBench) -> Bench:
    """Two running sequences, one with an adapter, one waiting, one load in progress, and everything cached."""
    bench = make_bench(block_size=BLOCK, max_running=2, adapter_slots=2, host_adapters=2)
    bench.warm(A, B)
    bench.disk.gate(C)
    bench.submit(
        generate("one", [1] * 9, A, tenant="t", max_tokens=40),
        generate("two", [2] * 6, tenant="u", max_tokens=40),
        generate("waits", [3] * 5, B, tenant="u"),
        generate("cold", [3] * 5, C, tenant="v"),
    )
    bench.step(3)
    slots = bench.engine.tiers.slots
    slots.can_place(NEW, "t")
    for shares in accounts(bench):
        shares.part_of("t", 4)
    bench.engine.check_integrity()
    return bench


def accounts(bench: Bench) -> list[TenantShares]:
    tiers = bench.engine.tiers
    return [tiers.slots._shares, tiers.host._shares, tiers._ahead.shares]


def keep_too_long_what_can_be_placed(bench: Bench) -> None:
    slots = bench.engine.tiers.slots
    possible = slots._victims(slots._idle, NEW, "t", {}) is not None
    slots._placeable["t", 0] = (NEW, not possible)


def miscount_the_bytes(bench: Bench) -> None:
    bench.engine.tiers.slots.used_bytes += 1


def miscount_the_bytes_of_the_host(bench: Bench) -> None:
    bench.engine.tiers.host.used_bytes += 1


def forget_what_a_load_takes(bench: Bench) -> None:
    bench.engine.tiers._ahead._loading.clear()


def take_more_of_the_device_than_there_is(bench: Bench) -> None:
    bench.engine.tiers.slots.budget = -1


def take_more_of_the_host_than_there_is(bench: Bench) -> None:
    bench.engine.tiers.host_budget = -1


def charge_a_part_twice(bench: Bench) -> None:
    shares = bench.engine.tiers.slots._shares
    shares._users[A.digest] = (*shares._users[A.digest], "u")


def let_a_pin_be_nobodys(bench: Bench) -> None:
    bench.engine.tiers.slots._shares._pins[A.digest] = set()


def pin_for_one_that_is_not_charged(bench: Bench) -> None:
    bench.engine.tiers.slots._shares._pins[A.digest] = {"stranger"}


def keep_sharers_too_long(bench: Bench) -> None:
    shares = bench.engine.tiers.slots._shares
    shares._sharers = _Sharers(shares.view(), frozenset(), 0)


def miscount_the_weights_of_sharers(bench: Bench) -> None:
    shares = bench.engine.tiers.host._shares
    assert shares._sharers is not None
    shares._sharers = replace(shares._sharers, total=77)


def keep_too_long_who_has_its_part(bench: Bench) -> None:
    shares = bench.engine.tiers._ahead.shares
    shares._current_sharers().have_part["t", 4] = not shares.has_part("t", 4)


def keep_a_holder_of_nothing(bench: Bench) -> None:
    bench.engine.tiers._ahead.shares._held["ghost"] = Fraction(0)


def keep_what_nobody_asks_for(bench: Bench) -> None:
    bench.engine.scheduler.waiting._asked["ghost", A] = 0


def wait_in_anothers_line(bench: Bench) -> None:
    lines = bench.engine.scheduler.waiting._lines[False]
    lines["v"], lines["u"] = lines["u"], lines["v"]


def keep_an_empty_line(bench: Bench) -> None:
    bench.engine.scheduler.waiting._lines[False]["ghost"] = OrderedDict()


def wait_and_run(bench: Bench) -> None:
    scheduler = bench.engine.scheduler
    sequence = next(iter(scheduler.waiting.values()))
    scheduler.running[sequence.sequence_id] = sequence


def lose_a_counter(bench: Bench) -> None:
    del bench.engine._counters._counters["v"]


def make_a_weight_nothing(bench: Bench) -> None:
    bench.engine._counters._weights["t"] = 0.0


def owe_less_than_nothing(bench: Bench) -> None:
    bench.engine._counters._counters["t"] = -1.0


def forget_the_last_level(bench: Bench) -> None:
    counters = bench.engine._counters
    counters._last_left = "t"
    counters._last_level = counters.counter("t") + 1


def leave_a_full_block_unoffered(bench: Bench) -> None:
    bench.engine.scheduler.kv_cache._tables[first(bench)].num_published -= 1


def offer_under_anothers_key(bench: Bench) -> None:
    pool = bench.engine.scheduler.kv_cache._pool
    block = bench.engine.scheduler.kv_cache._tables[first(bench)].blocks[0]
    key, digest = pool._labels[block]
    pool._labels[block] = b"another", digest
    pool._by_key[b"another"] = pool._by_key.pop(key)


def name_blocks_for_another_tenant(bench: Bench) -> None:
    sequence = bench.engine.scheduler.running[first(bench)]
    sequence.keys = bench.engine.scheduler.kv_cache.keys_of("somebody", sequence.digest)
    assert sequence.keys is not None
    sequence.keys.at_least(1, sequence.tokens)


def lose_the_blocks_of_one_that_runs(bench: Bench) -> None:
    bench.engine.scheduler.kv_cache.free(first(bench))


def charge_too_little(bench: Bench) -> None:
    bench.engine.scheduler.running[first(bench)].num_charged -= 1


def compute_before_the_turn(bench: Bench) -> None:
    next(iter(bench.engine.scheduler.waiting.values())).num_computed = 1


def keep_a_finished_sequence(bench: Bench) -> None:
    sequence = bench.engine.scheduler.running[first(bench)]
    sequence.num_computed = len(sequence.tokens)


def hear_of_the_longest_silent_last(bench: Bench) -> None:
    bench.engine.tiers._recent._heard["ghost"] = -1.0


def load_what_is_not_on_its_way(bench: Bench) -> None:
    bench.engine.tiers._loader._todo.put("t", A)


def leave_an_empty_turn(bench: Bench) -> None:
    bench.engine.tiers._loader._todo._lines["ghost"] = deque()


def keep_under_anothers_name(bench: Bench) -> None:
    adapters = bench.engine.tiers.host._adapters
    adapters[A.digest], adapters[B.digest] = adapters[B.digest], adapters[A.digest]


def arrive_and_have_a_slot(bench: Bench) -> None:
    tiers = bench.engine.tiers
    tiers._ahead.arrived[A.digest] = tiers.host._adapters[A.digest]
    tiers._ahead.shares.charge(A.digest, "t")


def wait_for_no_step(bench: Bench) -> None:
    number = first(bench)
    bench.engine._leaving[number] = bench.engine.scheduler.running[number]
    del bench.engine._by_request["one"]


def answer_for_another(bench: Bench) -> None:
    requests = bench.engine._by_request
    requests["one"], requests["two"] = requests["two"], requests["one"]


def first(bench: Bench) -> int:
    return next(iter(bench.engine.scheduler.running))


FAULTS: dict[Callable[[Bench], None], str] = {
    keep_too_long_what_can_be_placed: "whether a slot can be had",
    miscount_the_bytes: "bytes on the device",
    miscount_the_bytes_of_the_host: "bytes in host memory",
    forget_what_a_load_takes: "whose bytes are known",
    take_more_of_the_device_than_there_is: "more bytes than it may",
    take_more_of_the_host_than_there_is: "more of host memory than they may",
    charge_a_part_twice: "charged, whole",
    let_a_pin_be_nobodys: "by nobody",
    pin_for_one_that_is_not_charged: "not charged to who pinned it",
    keep_sharers_too_long: "share a tier",
    miscount_the_weights_of_sharers: "share a tier",
    keep_too_long_who_has_its_part: "holds its part of a tier",
    keep_a_holder_of_nothing: "charged, whole",
    keep_what_nobody_asks_for: "asked for",
    wait_in_anothers_line: "lines do not hold",
    keep_an_empty_line: "has a line",
    wait_and_run: "runs and waits",
    lose_a_counter: "no counter",
    make_a_weight_nothing: "weight is not positive",
    owe_less_than_nothing: "not a number of tokens",
    forget_the_last_level: "left the queue last",
    leave_a_full_block_unoffered: "more or fewer cache blocks",
    offer_under_anothers_key: "another's key",
    name_blocks_for_another_tenant: "another's key|not those of its tokens",
    lose_the_blocks_of_one_that_runs: "lacks cache blocks",
    charge_too_little: "is charged for",
    compute_before_the_turn: "has computed something",
    keep_a_finished_sequence: "nothing left to compute",
    hear_of_the_longest_silent_last: "last heard of",
    load_what_is_not_on_its_way: "queued twice",
    leave_an_empty_turn: "nothing queued",
    keep_under_anothers_name: "another's name",
    arrive_and_have_a_slot: "wait for a slot and have one",
    wait_for_no_step: "none is in flight",
    answer_for_another: "not those scheduled",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_an_account_that_is_wrong_is_found(bench: Bench, fault: Callable[[Bench], None]) -> None:
    fault(bench)
    with pytest.raises(RuntimeError, match=FAULTS[fault]):
        bench.engine.check_integrity()
    bench.engine.tiers._loader._todo._lines.pop("ghost", None)  # a loader's thread would find nothing to do


def test_tenants_that_come_and_go_break_no_account_before_anybody_looks_again(bench: Bench) -> None:
    """The server checks whenever it is idle, and a quiet minute must not end it."""
    bench.engine.tiers.slots.can_place(NEW, "t")
    bench.now += 2 * PRESENCE_SECONDS
    bench.engine.check_integrity()
    bench.engine.tiers.mark_seen("new")
    bench.engine._counters.set_weight("t", 5.0)
    bench.engine.check_integrity()


@pytest.mark.parametrize("length", [8, 9, 10])
def test_the_last_token_of_a_prompt_is_charged_whichever_row_computes_it(make_bench: MakeBench, length: int) -> None:
    """With a budget of 4 tokens, the ninth is alone in its row, as if it were decoded."""
    bench = make_bench(max_batch_tokens=4, prefix_cache=False)
    bench.submit(generate("r", [1] * length, max_tokens=3, tenant="t"))
    bench.drain()
    assert [row.count for batch in bench.batches for row in batch.rows][2] == {8: 1, 9: 1, 10: 2}[length]
    assert bench.engine._counters.counter("t") == INPUT_COST * length + OUTPUT_COST * 3
