"""A pinned adapter stays on the device, even when others need a slot, until it is unpinned or forgotten."""

import pytest
from msgspec.structs import replace

from harness.engine.engines import Bench, adapter, generate, load
from headmix_server.core.messages import Abort, AdapterLoaded, Failed, ForgetAdapter, UnpinAdapter
from headmix_server.core.runner import AdapterLoadError
from headmix_server.core.types import Residency
from headmix_server.engine.residency.recent_tenants import PRESENCE_SECONDS
from tests.server.engine.conftest import MakeBench

A, B, C = (adapter(name) for name in "abd")


def pin(bench: Bench, *names: str) -> None:
    bench.submit(*(load(f"pin-{name}", adapter(name), pin=True) for name in names))
    bench.drain()


def use(bench: Bench, *names: str) -> None:
    """Use adapters one after another."""
    for name in names:
        bench.submit(generate(f"use-{name}-{len(bench.batches)}", [1], adapter(name), max_tokens=1))
        bench.drain()


def on_device(bench: Bench) -> set[str]:
    slots = bench.engine.tiers.slots.digests()
    return {name for name in "abdefg" if adapter(name).digest in slots}


def test_a_pinned_adapter_stays_until_it_is_unpinned(make_bench: MakeBench) -> None:
    bench = make_bench(adapter_slots=2)
    pin(bench, "a")
    assert isinstance(bench.terminal("pin-a"), AdapterLoaded)
    use(bench, "b", "d", "e")
    assert on_device(bench) == {"a", "e"}
    bench.engine.unpin(UnpinAdapter(digest=A.digest, tenant=A.tenant))
    use(bench, "f")
    assert on_device(bench) == {"e", "f"}


@pytest.mark.parametrize(("slots", "kept"), [(1, set[str]()), (3, {"a", "b"})])
def test_one_slot_is_left_for_others_and_the_pin_too_many_is_refused(
    make_bench: MakeBench, slots: int, kept: set[str]
) -> None:
    bench = make_bench(adapter_slots=slots)
    pin(bench, "a")
    pin(bench, "b")
    pin(bench, "d")
    refused = [name for name in "abd" if isinstance(bench.terminal(f"pin-{name}"), Failed)]
    assert set("abd") - set(refused) == kept
    for name in refused:
        end = bench.terminal(f"pin-{name}")
        assert isinstance(end, Failed)
        assert (end.code, "unpin another" in end.message) == ("server_overloaded", True)
    use(bench, "e", "f")
    assert kept < on_device(bench)


def test_of_pins_that_load_at_the_same_time_only_as_many_are_made_as_may_be(make_bench: MakeBench) -> None:
    bench = make_bench(adapter_slots=2)
    pin(bench, "a", "b", "d")
    ends = [bench.terminal(f"pin-{name}") for name in "abd"]
    assert sum(isinstance(end, AdapterLoaded) for end in ends) == 1
    assert bench.engine.tiers.slots.num_pinned == 1


def test_pinning_again_is_no_second_pin(make_bench: MakeBench) -> None:
    bench = make_bench(adapter_slots=2)
    pin(bench, "a")
    bench.submit(load("again", A, pin=True))
    bench.drain()
    assert isinstance(bench.terminal("again"), AdapterLoaded)
    bench.engine.unpin(UnpinAdapter(digest=A.digest, tenant=A.tenant))
    assert bench.engine.tiers.slots.num_pinned == 0


def test_a_forgotten_adapter_is_no_longer_pinned_and_leaves(make_bench: MakeBench) -> None:
    bench = make_bench(adapter_slots=2)
    pin(bench, "a")
    bench.engine.forget(ForgetAdapter(digest=A.digest))
    assert bench.engine.tiers.slots.num_pinned == 0
    bench.drain()
    assert on_device(bench) == set()


@pytest.mark.parametrize("message", [UnpinAdapter(digest=A.digest, tenant=A.tenant), ForgetAdapter(digest=A.digest)])
def test_a_pin_called_off_while_the_adapter_loads_is_not_made(
    make_bench: MakeBench, message: UnpinAdapter | ForgetAdapter
) -> None:
    bench = make_bench(adapter_slots=2)
    gate = bench.disk.gate(A)
    bench.submit(load("pin", A, pin=True))
    if isinstance(message, UnpinAdapter):
        bench.engine.unpin(message)
    else:
        bench.engine.forget(message)
    gate.set()
    bench.drain()
    assert isinstance(bench.terminal("pin"), AdapterLoaded)
    assert bench.engine.tiers.slots.num_pinned == 0


def test_a_pin_that_fails_or_is_aborted_leaves_none(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.disk.faults["a"] = AdapterLoadError("not an artifact")
    gate = bench.disk.gate(B)
    bench.submit(load("fails", A, pin=True), load("leaves", B, pin=True))
    bench.engine.abort(Abort(request_id="leaves"))
    gate.set()
    bench.drain()
    assert bench.failure("fails") == "internal_error"
    assert bench.engine.tiers.slots.num_pinned == 0
    assert bench.outputs["leaves"] == []


def test_a_request_gets_a_slot_though_its_tenants_only_other_one_is_pinned(make_bench: MakeBench) -> None:
    bench = make_bench(adapter_slots=2)
    pin(bench, "a")
    message = generate("other", [1], B, tenant="u", max_tokens=1)
    bench.submit(message)
    bench.drain()
    mine = generate("mine", [1], C)
    bench.submit(mine)
    bench.drain()
    bench.assert_answered(message, mine)


# --- several tenants ---------------------------------------------------------------------------------------------


def pin_for(bench: Bench, tenant: str, name: str) -> bool:
    """Pin an adapter for a tenant and return whether it was pinned."""
    request_id = f"{tenant}-pins-{name}"
    bench.submit(load(request_id, replace(adapter(name), tenant=tenant), pin=True))
    bench.drain()
    return isinstance(bench.terminal(request_id), AdapterLoaded)


def test_bytes_that_another_tenant_has_loaded_are_pinned_at_the_full_price(make_bench: MakeBench) -> None:
    bench = make_bench(adapter_slots=8)
    names = [f"public-{number}" for number in range(7)]
    bench.submit(*(load(name, replace(adapter(name), tenant="victim")) for name in names))
    bench.drain()
    assert [pin_for(bench, "attacker", name) for name in names] == [True] * 3 + [False] * 4
    assert pin_for(bench, "victim", "own")
    bench.engine.check_integrity()


def test_a_pin_of_the_same_bytes_ends_for_its_own_tenant_alone(make_bench: MakeBench) -> None:
    bench = make_bench(adapter_slots=3)
    assert pin_for(bench, "t", "a")
    assert pin_for(bench, "u", "a")
    bench.engine.unpin(UnpinAdapter(digest=A.digest, tenant="t"))
    use(bench, "b", "d", "e", "f")
    assert "a" in on_device(bench)
    bench.engine.unpin(UnpinAdapter(digest=A.digest, tenant="u"))
    bench.now += 2 * PRESENCE_SECONDS
    use(bench, "b", "d", "e", "f")
    assert "a" not in on_device(bench)


def test_what_is_reported_as_resident_names_the_tenants_whose_use_brought_it(make_bench: MakeBench) -> None:
    bench = make_bench(adapter_slots=1, host_adapters=2)
    bench.submit(generate("one", [1], A, tenant="u", max_tokens=1))
    bench.drain()
    residents = bench.engine.tiers.take_residents() or []
    assert [(one.digest, one.tier, one.tenants) for one in residents] == [(A.digest, Residency.DEVICE, ["u"])]
    bench.submit(generate("two", [1], A, tenant="w", max_tokens=1))
    bench.drain()
    bench.submit(generate("three", [1], B, tenant="u", max_tokens=1))
    bench.drain()
    residents = bench.engine.tiers.take_residents() or []
    assert [(one.digest, one.tier, one.tenants) for one in residents] == [
        (B.digest, Residency.DEVICE, ["u"]),
        (A.digest, Residency.HOST, ["u", "w"]),
    ]
