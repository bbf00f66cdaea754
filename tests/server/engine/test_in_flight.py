"""What may happen to a request while a step that includes it is computing."""

import threading

import pytest

from harness.engine.engines import GIVE_UP_SECONDS, adapter, generate, load
from headmix_server.core.messages import (
    Abort,
    ForgetAdapter,
    Generate,
    LoadAdapter,
)
from tests.server.engine.conftest import MakeBench, failing

A, B, C2 = adapter("a"), adapter("b"), adapter("c2")


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
