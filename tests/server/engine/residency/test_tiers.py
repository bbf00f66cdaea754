"""Adapters move between disk, host memory and device, and are always counted, kept and dropped correctly."""

import time
from collections.abc import Callable, Iterator

import pytest

from harness.engine.engines import FakeDisk, adapter
from headmix_server.core.runner import AdapterLoadError, HostAdapter
from headmix_server.core.types import AdapterRef, Residency
from headmix_server.engine.fake_runner import FakeRunner
from headmix_server.engine.residency.tiers import AdapterTiers

A, B, C, D = (adapter(name) for name in "abde")


@pytest.fixture
def disk() -> FakeDisk:
    return FakeDisk()


@pytest.fixture
def make_tiers(disk: FakeDisk) -> Iterator[Callable[..., AdapterTiers]]:
    made: list[AdapterTiers] = []

    def make(num_slots: int = 2, host_capacity: int = 8, threads: int = 1) -> AdapterTiers:
        made.append(AdapterTiers(FakeRunner(open_adapter=disk.open), num_slots, host_capacity, threads))
        return made[-1]

    yield make
    for gate in disk.gates.values():
        gate.set()
    for tiers in made:
        tiers.close()


def poll(tiers: AdapterTiers) -> dict[str, AdapterLoadError]:
    """Wait for every load in progress; return the failures."""
    failures: dict[str, AdapterLoadError] = {}
    deadline = time.monotonic() + 10
    while tiers.num_loading and time.monotonic() < deadline:
        failures |= tiers.poll_loads()
        time.sleep(0.0005)
    return failures | dict(tiers.poll_loads())


def bring(tiers: AdapterTiers, *refs: AdapterRef) -> None:
    for ref in refs:
        tiers.install(ref, "t")
        poll(tiers)
        assert tiers.install(ref, "t")


def test_an_adapter_on_its_way_holds_no_slot(disk: FakeDisk, make_tiers: Callable[..., AdapterTiers]) -> None:
    tiers = make_tiers(num_slots=1, threads=2)
    disk.gate(A)
    assert not tiers.install(A, "t")
    deadline = time.monotonic() + 10
    while not tiers.install(B, "t") and time.monotonic() < deadline:
        tiers.poll_loads()
    assert tiers.slots.digests() == [B.digest]
    assert tiers.num_loading == 1


def test_lookups_are_counted_by_the_tier_that_answers(make_tiers: Callable[..., AdapterTiers]) -> None:
    tiers = make_tiers(num_slots=1)
    tiers.count_lookup(A.digest)
    bring(tiers, A)
    tiers.count_lookup(A.digest)
    bring(tiers, B)
    tiers.count_lookup(A.digest)
    counts = tiers.take_counts()
    assert counts.hits == {Residency.DEVICE: 1, Residency.HOST: 1}
    assert counts.misses == {Residency.DEVICE: 2, Residency.HOST: 1}
    assert tiers.take_counts().hits == {}


def test_an_evicted_adapter_returns_from_host_memory(disk: FakeDisk, make_tiers: Callable[..., AdapterTiers]) -> None:
    tiers = make_tiers(num_slots=1)
    bring(tiers, A, B)
    assert tiers.install(A, "t")
    assert disk.opened == ["a", "b"]
    counts = tiers.take_counts()
    assert [load.source for load in counts.loads] == [Residency.DISK, Residency.DISK, Residency.HOST]
    assert counts.evictions == {Residency.DEVICE: 2, Residency.HOST: 0}


def test_what_host_memory_drops_is_counted_and_read_from_disk_again(
    disk: FakeDisk, make_tiers: Callable[..., AdapterTiers]
) -> None:
    tiers = make_tiers(num_slots=1, host_capacity=1)
    bring(tiers, A, B, A)
    assert disk.opened == ["a", "b", "a"]
    assert tiers.take_counts().evictions[Residency.HOST] == 2


def test_without_host_memory_an_arrival_waits_for_its_slot(make_tiers: Callable[..., AdapterTiers]) -> None:
    tiers = make_tiers(num_slots=1, host_capacity=0)
    bring(tiers, A)
    lease = tiers.slots.acquire(A.digest, "t")
    assert not tiers.install(B, "t")
    poll(tiers)
    tiers.sweep({A.digest, B.digest})
    assert tiers.waits_for_slot(B.digest, "t")
    assert not tiers.install(B, "t")
    tiers.slots.release(lease)
    assert tiers.install(B, "t")


def test_an_arrival_nobody_waits_for_any_more_is_dropped(make_tiers: Callable[..., AdapterTiers]) -> None:
    tiers = make_tiers(num_slots=1, host_capacity=0)
    tiers.load(A, "t")
    poll(tiers)
    tiers.sweep(set())
    assert tiers.take_residents() == []


def test_loads_ahead_of_the_slots_are_bounded(disk: FakeDisk, make_tiers: Callable[..., AdapterTiers]) -> None:
    tiers = make_tiers(num_slots=1, threads=1)
    for ref in (A, B, C, D):
        disk.gate(ref)
        tiers.load(ref, "t")
    assert tiers.num_loading == 2


def test_a_tenant_at_its_part_of_the_loads_ahead_may_load_again_once_one_of_its_own_has_landed(
    disk: FakeDisk, make_tiers: Callable[..., AdapterTiers]
) -> None:
    tiers = make_tiers(num_slots=1, threads=1)  # at most 2 loads ahead, and one more for a tenant without any
    disk.gate(B)
    for ref, tenant in ((A, "a"), (B, "b"), (D, "a"), (C, "c")):
        tiers.mark_seen(tenant)
        tiers.load(ref, tenant)
    assert tiers.loading == {A.digest, B.digest, C.digest}
    deadline = time.monotonic() + 10
    while not tiers.install(A, "a") and time.monotonic() < deadline:
        tiers.poll_loads()
    tiers.load(D, "a")
    assert tiers.loading == {B.digest, C.digest, D.digest}


def test_no_tier_gives_up_what_a_queued_request_wants_for_what_nobody_does(
    disk: FakeDisk, make_tiers: Callable[..., AdapterTiers]
) -> None:
    tiers = make_tiers(num_slots=2, host_capacity=2)
    bring(tiers, A, B)
    tiers.want(lambda: {D.digest: 0, A.digest: 1})
    bring(tiers, D)
    assert tiers.slots.holds(A.digest)
    assert A.digest in tiers.host
    assert not tiers.slots.holds(B.digest)


def test_an_adapter_in_use_is_not_the_first_that_host_memory_drops(
    disk: FakeDisk, make_tiers: Callable[..., AdapterTiers]
) -> None:
    tiers = make_tiers(num_slots=4, host_capacity=2)
    bring(tiers, A, B)
    tiers.remember(A.digest, "t")  # a request for it, answered from its slot
    bring(tiers, C)
    assert A.digest in tiers.host


def test_a_failed_load_is_reported_once_and_may_be_retried(
    disk: FakeDisk, make_tiers: Callable[..., AdapterTiers]
) -> None:
    tiers = make_tiers()
    disk.faults["a"] = AdapterLoadError("its file is missing", missing=True)
    tiers.install(A, "t")
    assert poll(tiers)[A.digest].missing
    assert not tiers.busy
    del disk.faults["a"]
    bring(tiers, A)


@pytest.mark.parametrize("fault", [AdapterLoadError("it does not fit"), MemoryError("it does not fit")])
def test_an_adapter_the_device_refuses_leaves_slot_and_host_memory(
    fault: Exception, make_tiers: Callable[..., AdapterTiers], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiers = make_tiers(num_slots=1)
    tiers.load(A, "t")
    poll(tiers)
    install = tiers._runner.install

    def refuse(slot: int, generation: int, host_adapter: HostAdapter) -> None:
        raise fault

    monkeypatch.setattr(tiers._runner, "install", refuse)
    assert not tiers.install(A, "t")
    assert not tiers.install(A, "t")
    assert tiers.busy
    assert "it does not fit" in str(tiers.poll_loads()[A.digest])
    assert tiers.slots.counts().free == 1
    assert A.digest not in tiers.host
    monkeypatch.setattr(tiers._runner, "install", install)
    bring(tiers, A)


def test_a_forgotten_adapter_leaves_every_tier_once_nothing_needs_it(make_tiers: Callable[..., AdapterTiers]) -> None:
    tiers = make_tiers(num_slots=1)
    bring(tiers, A, B)
    for digest in (A.digest, B.digest):
        tiers.forget(digest)
    tiers.sweep({B.digest})
    assert [resident.digest for resident in tiers.take_residents() or ()] == [B.digest]
    tiers.sweep(set())
    assert tiers.take_residents() == []
    assert not tiers.busy


def test_a_forgotten_adapter_on_its_way_is_dropped_when_it_arrives(
    disk: FakeDisk, make_tiers: Callable[..., AdapterTiers]
) -> None:
    tiers = make_tiers()
    gate = disk.gate(A)
    tiers.load(A, "t")
    tiers.forget(A.digest)
    tiers.sweep(set())
    assert tiers.busy
    gate.set()
    poll(tiers)
    tiers.sweep(set())
    assert tiers.take_residents() == []
    assert not tiers.busy


def test_naming_an_adapter_again_calls_off_forgetting(make_tiers: Callable[..., AdapterTiers]) -> None:
    tiers = make_tiers()
    bring(tiers, A)
    tiers.forget(A.digest)
    tiers.remember(A.digest, "t")
    tiers.sweep(set())
    assert tiers.slots.holds(A.digest)


def test_residents_are_reported_when_they_change_each_with_its_fastest_tier(
    make_tiers: Callable[..., AdapterTiers],
) -> None:
    tiers = make_tiers(num_slots=1)
    assert tiers.take_residents() == []
    assert tiers.take_residents() is None
    bring(tiers, A, B)
    residents = tiers.take_residents() or []
    assert [(r.digest, r.tier) for r in residents] == [(B.digest, Residency.DEVICE), (A.digest, Residency.HOST)]
    assert tiers.take_residents() is None
