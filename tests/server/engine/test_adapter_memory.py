"""Memory for adapters is limited in bytes on the device and in host memory, and shared: if it is full, one is evicted.

The runner stands in for a GPU's: one block of memory in which each adapter needs a contiguous run.
"""

import time
from collections.abc import Callable, Collection, Iterator

import msgspec
import pytest

from harness.engine.engines import Bench, FakeDisk, adapter, generate, load
from headmix_server.core.messages import AdapterLoaded, Failed
from headmix_server.core.runner import AdapterLoadError, HostAdapter
from headmix_server.core.types import AdapterRef, Residency
from headmix_server.device.adapters.run_allocator import RunAllocator
from headmix_server.engine.config import UNBOUNDED
from headmix_server.engine.fake_runner import FakeRunner
from headmix_server.engine.residency.loads_ahead import LOAD_FACTOR
from headmix_server.engine.residency.tiers import AdapterTiers
from headmix_server.engine.scheduling.adapter_admission import SLOT_PATIENCE_SECONDS
from tests.server.engine.conftest import MakeBench


class OneBlock(FakeRunner):
    """Keeps each adapter in a contiguous run of bytes, as `FixedStorage` does; never moves one."""

    def __init__(self, capacity: int, **more: object) -> None:
        super().__init__(**more)  # type: ignore[arg-type]  # passed on unchanged
        self.allocator = RunAllocator()
        self.allocator.grow(capacity)
        self.runs: dict[int, tuple[int, int]] = {}

    def install(self, slot: int, generation: int, adapter: HostAdapter) -> None:
        size = max(1, adapter.device_bytes)
        first = self.allocator.allocate(size)
        if first is None:
            raise AdapterLoadError("no run of memory is long enough")
        self.runs[slot] = (first, size)
        super().install(slot, generation, adapter)

    def clear(self, slot: int) -> None:
        super().clear(slot)
        self.allocator.release(*self.runs.pop(slot))

    def fits(self, adapter: HostAdapter, emptied: Collection[int]) -> bool:
        return self.allocator.has_run(max(1, adapter.device_bytes), [self.runs[slot] for slot in emptied])


@pytest.fixture
def disk() -> FakeDisk:
    return FakeDisk()


MakeTiers = Callable[..., AdapterTiers]


@pytest.fixture
def make_tiers(disk: FakeDisk) -> Iterator[MakeTiers]:
    made: list[AdapterTiers] = []

    def make(device: int = UNBOUNDED, host: int = UNBOUNDED, slots: int = 8, host_capacity: int = 100) -> AdapterTiers:
        runner = OneBlock(min(device, 2**40), open_adapter=disk.open)
        made.append(AdapterTiers(runner, slots, host_capacity, 1, device_bytes=device, host_bytes=host))
        return made[-1]

    yield make
    for gate in disk.gates.values():
        gate.set()
    for tiers in made:
        tiers.close()


def sized(disk: FakeDisk, name: str, size: int, *, file: int = 0) -> AdapterRef:
    disk.sizes[name] = size
    return msgspec.structs.replace(adapter(name), size_bytes=file)


def bring(tiers: AdapterTiers, ref: AdapterRef, tenant: str = "t") -> bool:
    """Retry until the adapter is on the device or waits for others there; raise the reason if it never will be."""
    tiers.mark_seen(tenant)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        failures = tiers.poll_loads()
        if ref.digest in failures:
            raise failures[ref.digest]
        if tiers.install(ref, tenant):
            return True
        if tiers.waits_for_slot(ref.digest, tenant) and not tiers.busy:
            return False
        time.sleep(0.0005)
    raise TimeoutError


def used(tiers: AdapterTiers) -> int:
    tiers.check_integrity()
    tiers.slots.check_integrity([])
    return tiers.slots.used_bytes


# --- the device --------------------------------------------------------------------------------------------------


def test_a_device_full_of_idle_adapters_makes_room_and_refuses_nothing(disk: FakeDisk, make_tiers: MakeTiers) -> None:
    tiers = make_tiers(device=10)
    for number, size in enumerate((4, 3, 3, 6, 1, 10, 2, 9, 5, 5, 7)):
        assert bring(tiers, sized(disk, f"a{number}", size))
        assert used(tiers) <= 10
    assert tiers.poll_loads() == {}


def test_free_bytes_in_two_places_are_no_place_and_what_lies_between_leaves(
    disk: FakeDisk, make_tiers: MakeTiers
) -> None:
    tiers = make_tiers(device=8)
    for name in "abcd":
        assert bring(tiers, sized(disk, f"x{name}", 2))
    for name in "bd":
        lease = tiers.slots.acquire(adapter(f"x{name}").digest, "t")
        tiers.slots.release(lease)  # a and c are the first to leave, and are not adjacent
    assert bring(tiers, sized(disk, "large", 4))
    assert tiers.slots.holds(adapter("xd").digest)
    assert used(tiers) <= 8


def test_an_adapter_waits_for_those_in_use_and_comes_once_they_are_idle(disk: FakeDisk, make_tiers: MakeTiers) -> None:
    tiers = make_tiers(device=8)
    for name in "abcd":
        assert bring(tiers, sized(disk, f"x{name}", 2))
    leases = [tiers.slots.acquire(adapter(f"x{name}").digest, "t") for name in "bd"]
    large = sized(disk, "large", 4)
    assert not bring(tiers, large)
    assert tiers.waits_for_slot(large.digest, "t")
    assert all(tiers.slots.holds(adapter(f"x{name}").digest) for name in "abcd"), "nothing leaves for nothing"
    tiers.slots.release(leases[0])
    assert bring(tiers, large)
    assert tiers.slots.is_current(leases[1])


def test_one_tenants_large_adapters_evict_its_own_beside_anothers_small_ones(
    disk: FakeDisk, make_tiers: MakeTiers
) -> None:
    tiers = make_tiers(device=16)
    for number in range(4):
        assert bring(tiers, sized(disk, f"small{number}", 1), "light")
    for number in range(20):
        assert bring(tiers, sized(disk, f"large{number}", 5), "heavy")
    assert all(tiers.slots.holds(adapter(f"small{number}").digest) for number in range(4))


@pytest.mark.parametrize(
    ("device", "host", "setting"), [(10, UNBOUNDED, "--adapter-memory-mib"), (UNBOUNDED, 10, "--host-adapter-mib")]
)
def test_what_no_memory_can_hold_is_refused_with_the_setting(
    disk: FakeDisk, make_tiers: MakeTiers, device: int, host: int, setting: str
) -> None:
    tiers = make_tiers(device=device, host=host)
    ref = sized(disk, "huge", 11)
    with pytest.raises(AdapterLoadError, match=setting) as raised:
        bring(tiers, ref)
    assert raised.value.code == "adapter_too_large"
    assert used(tiers) == 0


def test_a_file_that_no_memory_can_hold_however_it_is_kept_is_not_even_read(
    disk: FakeDisk, make_tiers: MakeTiers
) -> None:
    tiers = make_tiers(device=10)
    ref = sized(disk, "huge", 11, file=44)
    assert not tiers.install(ref, "t")
    assert [error.code for error in tiers.poll_loads().values()] == ["adapter_too_large"]
    assert disk.opened == []
    tiers.install(sized(disk, "maybe", 5, file=43), "t")
    assert tiers.num_loading == 1


def test_an_adapter_that_pins_leave_no_place_for_fails_and_does_not_wait_for_good(
    disk: FakeDisk, make_tiers: MakeTiers
) -> None:
    tiers = make_tiers(device=10)
    assert bring(tiers, sized(disk, "pinned", 4))
    tiers.slots.pin(adapter("pinned").digest, "t")
    assert bring(tiers, sized(disk, "fits", 6))
    with pytest.raises(AdapterLoadError, match="next to the pinned adapters") as raised:
        bring(tiers, sized(disk, "does not", 7))
    assert raised.value.code == "server_overloaded"


# --- host memory -------------------------------------------------------------------------------------------------


def test_host_memory_keeps_adapters_by_their_bytes(disk: FakeDisk, make_tiers: MakeTiers) -> None:
    tiers = make_tiers(host=10)
    for number in range(6):
        assert bring(tiers, sized(disk, f"a{number}", 4))
        tiers.sweep(set())
        assert tiers.host_bytes <= 10
        used(tiers)
    assert tiers.host.digests() == [adapter(f"a{number}").digest for number in (4, 5)]
    assert tiers.take_counts().evictions[Residency.HOST] == 4


def test_host_memory_is_shared_by_bytes_and_not_by_number(disk: FakeDisk, make_tiers: MakeTiers) -> None:
    tiers = make_tiers(host=43, host_capacity=3)
    for name, size in (("a", 40), ("b1", 1), ("b2", 1), ("d", 1)):
        assert bring(tiers, sized(disk, name, size), name[0])
        tiers.sweep(set())
    assert tiers.host.digests() == [adapter(name).digest for name in ("b1", "b2", "d")]


def test_loads_ahead_are_bounded_in_bytes_and_leave_the_cache_the_rest(disk: FakeDisk, make_tiers: MakeTiers) -> None:
    tiers = make_tiers(host=24 * LOAD_FACTOR)
    assert bring(tiers, sized(disk, "kept", 60))
    tiers.sweep(set())
    refs = [sized(disk, f"a{number}", 4, file=4) for number in range(6)]
    for ref in refs:
        disk.gate(ref)
        tiers.load(ref, f"tenant of {ref.name}")
        assert tiers.host_bytes <= 24 * LOAD_FACTOR
        used(tiers)
    assert tiers.num_loading == 3  # half of the budget
    assert tiers.host.digests() == [], "what is kept gives way to loads"


def test_a_flood_of_one_tenants_loads_leaves_another_its_part(disk: FakeDisk, make_tiers: MakeTiers) -> None:
    tiers = make_tiers(host=32 * LOAD_FACTOR)
    for number in range(8):
        ref = sized(disk, f"a{number}", 2, file=2)
        disk.gate(ref)
        tiers.load(ref, "flood")
    assert tiers.num_loading == 4
    other = sized(disk, "other", 2, file=2)
    disk.gate(other)
    tiers.load(other, "quiet")
    assert other.digest in tiers.loading


def test_a_load_larger_than_its_part_is_begun_alone_and_smaller_ones_do_not_pass_it_for_good(
    disk: FakeDisk, make_tiers: MakeTiers
) -> None:
    tiers = make_tiers(host=20 * LOAD_FACTOR)
    first, large, later = (
        sized(disk, name, 1, file=size) for name, size in (("first", 1), ("large", 15), ("later", 1))
    )
    gate = disk.gate(first)
    tiers.load(first, "a")
    tiers.load(large, "b")
    tiers.load(later, "c")
    assert tiers.loading == {first.digest}
    gate.set()
    deadline = time.monotonic() + 10
    while large.digest not in tiers.loading and time.monotonic() < deadline:
        tiers.poll_loads()
        tiers.sweep(set())
        tiers.load(large, "b")
        if large.digest not in tiers.loading:
            tiers.load(later, "c")
            assert later.digest not in tiers.loading
    assert large.digest in tiers.loading or tiers.host.peek(large.digest)


def test_a_load_that_nobody_asks_for_any_more_holds_nobody_back(disk: FakeDisk, make_tiers: MakeTiers) -> None:
    tiers = make_tiers(host=20 * LOAD_FACTOR)
    first, large, later = (
        sized(disk, name, 1, file=size) for name, size in (("first", 1), ("large", 15), ("later", 1))
    )
    disk.gate(first)
    tiers.load(first, "a")
    tiers.load(large, "b")
    tiers.poll_loads()
    tiers.poll_loads()
    tiers.load(later, "c")
    assert later.digest in tiers.loading


# --- the whole engine --------------------------------------------------------------------------------------------


def bounded_bench(make_bench: MakeBench, sizes: dict[str, int], **limits: int) -> Bench:
    bench = make_bench(**limits)
    bench.disk.sizes = sizes
    return bench


def test_requests_for_more_adapters_than_the_device_holds_are_all_answered(make_bench: MakeBench) -> None:
    sizes = {f"n{number}": 1 + number % 6 for number in range(30)}
    bench = bounded_bench(make_bench, sizes, adapter_slots=8, device_adapter_bytes=12, host_adapter_bytes=40)
    messages = [
        generate(f"r{number}", [number], adapter(f"n{number}"), tenant=f"t{number % 3}", max_tokens=3)
        for number in range(30)
    ]
    bench.submit(*messages)
    bench.drain()
    bench.assert_answered(*messages)
    assert bench.engine.tiers.slots.used_bytes <= 12
    assert bench.engine.tiers.host_bytes <= 40


def test_a_large_adapter_gets_its_place_though_small_ones_are_asked_without_end(make_bench: MakeBench) -> None:
    sizes = {"large": 7} | {f"n{number}": 2 for number in range(4)}
    bench = bounded_bench(make_bench, sizes, adapter_slots=8, device_adapter_bytes=8, max_running=8)
    small = [adapter(f"n{number}") for number in range(4)]
    bench.warm(*small)
    for number in range(8):
        bench.submit(generate(f"s{number}", [1], small[number % 4], tenant="busy", max_tokens=20))
    bench.step(2)
    large = generate("large", [1], adapter("large"), tenant="quiet", max_tokens=2)
    bench.submit(large)
    served = 0
    while bench.outputs["large"] == [] and served < 400:
        bench.now += SLOT_PATIENCE_SECONDS / 4
        bench.submit(generate(f"more{served}", [1], small[served % 4], tenant="busy", max_tokens=20))
        bench.step()
        served += 1
    assert bench.outputs["large"], "small ones kept it from its place"
    bench.drain()
    bench.assert_answered(large)


def test_what_can_never_fit_fails_with_its_own_code_for_requests_and_loads(make_bench: MakeBench) -> None:
    bench = bounded_bench(make_bench, {"huge": 13}, device_adapter_bytes=12)
    bench.submit(generate("asks", [1], adapter("huge")), load("loads", adapter("huge")))
    bench.drain()
    for request_id in ("asks", "loads"):
        end = bench.terminal(request_id)
        assert isinstance(end, Failed)
        assert (end.code, "--adapter-memory-mib" in end.message) == ("adapter_too_large", True)


def test_pins_leave_half_of_the_bytes(make_bench: MakeBench) -> None:
    sizes = {"a": 3, "b": 3, "d": 3, "e": 6}
    bench = bounded_bench(make_bench, sizes, adapter_slots=8, device_adapter_bytes=12)
    bench.submit(*(load(f"pin-{name}", adapter(name), pin=True) for name in "abd"))
    bench.drain()
    ends = [bench.terminal(f"pin-{name}") for name in "abd"]
    assert [isinstance(end, AdapterLoaded) for end in ends].count(True) == 2
    message = generate("asks", [1], adapter("e"), max_tokens=1)
    bench.submit(message)
    bench.drain()
    bench.assert_answered(message)


def test_limits_without_budgets_bound_nothing(make_bench: MakeBench) -> None:
    bench = make_bench()
    assert bench.engine.tiers.slots.budget == bench.engine.tiers.host_budget == UNBOUNDED
