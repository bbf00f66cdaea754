"""A lease means one adapter for as long as it is held; only unleased adapters are evicted, the oldest use first."""

from collections.abc import Collection

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headmix_server.core.runner import HostAdapter, Lease
from headmix_server.engine.fake_runner import FakeAdapter
from headmix_server.engine.residency.slots import LeaseError, SlotTable
from tests.support.tenant_shares import make_shares

DIGESTS = st.sampled_from("abcde")
NEW = FakeAdapter("new")


class SlotMachine(RuleBasedStateMachine):
    """Adapters arrive, are leased and leave at random; the model is an ordered list of idle ones plus the leases."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = SlotTable(3, make_shares())
        self.leases: list[Lease] = []
        self.returned: list[Lease] = []
        self.idle: list[str] = []
        self.seen: set[tuple[int, int]] = set()

    def leased(self) -> set[str]:
        return {lease.digest for lease in self.leases}

    @rule(digest=DIGESTS)
    def place(self, digest: str) -> None:
        occupied = len(self.idle) + len(self.leased())
        if self.slots.holds(digest) or (occupied == 3 and not self.idle):
            with pytest.raises(LeaseError):
                self.slots.place(FakeAdapter(digest), "t")
            return
        placement = self.slots.place(FakeAdapter(digest), "t")
        assert list(placement.evicted) == ([self.idle.pop(0)] if occupied == 3 else [])
        assert (placement.slot, placement.generation) not in self.seen
        self.seen.add((placement.slot, placement.generation))
        self.idle.append(digest)

    @rule(digest=DIGESTS)
    def vacate(self, digest: str) -> None:
        if digest not in self.idle:
            with pytest.raises(LeaseError):
                self.slots.vacate(digest)
            return
        self.slots.vacate(digest)
        self.idle.remove(digest)

    @rule(digest=DIGESTS)
    def acquire(self, digest: str) -> None:
        if not self.slots.holds(digest):
            with pytest.raises(LeaseError):
                self.slots.acquire(digest, "t")
            return
        lease = self.slots.acquire(digest, "t")
        assert lease.digest == digest
        self.leases.append(lease)
        if digest in self.idle:
            self.idle.remove(digest)

    @precondition(lambda self: self.leases)
    @rule(index=st.integers(0, 99))
    def release(self, index: int) -> None:
        lease = self.leases.pop(index % len(self.leases))
        self.slots.release(lease)
        self.returned.append(lease)
        if lease.digest not in self.leased():
            self.idle.append(lease.digest)

    @precondition(lambda self: self.returned)
    @rule(index=st.integers(0, 99))
    def release_twice(self, index: int) -> None:
        with pytest.raises(LeaseError):
            self.slots.release(self.returned[index % len(self.returned)])

    @invariant()
    def accounts_are_whole(self) -> None:
        self.slots.check_integrity(self.leases)
        assert all(self.slots.is_current(lease) for lease in self.leases)
        assert not any(self.slots.is_current(lease) for lease in self.returned)
        assert set(self.slots.digests()) == {*self.idle, *self.leased()}
        assert self.slots.can_place(NEW, "t") == (bool(self.idle) or len(self.leased()) < 3)
        counts = self.slots.counts()
        assert (counts.idle, counts.leased) == (len(self.idle), len(self.leased()))
        assert counts.free + counts.idle + counts.leased == 3


TestSlots = SlotMachine.TestCase


def test_the_least_recently_used_of_the_unleased_is_evicted() -> None:
    slots = SlotTable(3, make_shares())
    for digest in "abc":
        slots.place(FakeAdapter(digest), "t")
    held = slots.acquire("b", "t")
    slots.release(slots.acquire("a", "t"))
    assert list(slots.place(FakeAdapter("d"), "t").evicted) == ["c"]
    assert list(slots.place(FakeAdapter("e"), "t").evicted) == ["a"]
    assert slots.is_current(held)


def test_an_idle_adapter_that_queued_requests_want_is_evicted_last() -> None:
    slots = SlotTable(2, make_shares())
    slots.place(FakeAdapter("a"), "t")
    slots.place(FakeAdapter("b"), "t")
    assert list(slots.place(FakeAdapter("c"), "t", {"a": 0}).evicted) == ["b"]
    assert list(slots.place(FakeAdapter("d"), "t", {"a": 0, "c": 1}).evicted) == ["c"]


def test_integrity_sees_a_lease_that_never_came_home() -> None:
    slots = SlotTable(1, make_shares())
    slots.place(FakeAdapter("a"), "t")
    lease = slots.acquire("a", "t")
    with pytest.raises(RuntimeError, match="leases held"):
        slots.check_integrity([])
    slots.check_integrity([lease])
    with pytest.raises(RuntimeError, match="leases held"):
        slots.check_integrity([lease, lease])


def test_what_a_tenant_that_has_gone_left_idle_is_anybodys_once_that_is_looked_at_again() -> None:
    present = ["a", "b"]
    slots = SlotTable(2, make_shares(present))
    slots.place(FakeAdapter("a1"), "a")
    slots.acquire("a1", "a")
    slots.place(FakeAdapter("b1"), "b")
    assert not slots.can_place(NEW, "a")  # it would have more than b
    present.remove("b")
    assert not slots.can_place(NEW, "a")  # all of a step is decided by the same tenants
    slots.invalidate()
    assert slots.can_place(NEW, "a")


# --- pins --------------------------------------------------------------------------------------------------------


def test_a_pinned_adapter_is_never_evicted_until_it_is_unpinned() -> None:
    slots = SlotTable(2, make_shares())
    slots.place(FakeAdapter("a"), "t")
    slots.pin("a", "t")
    slots.place(FakeAdapter("b"), "t")
    assert [list(slots.place(FakeAdapter(digest), "t").evicted) for digest in "cde"] == [["b"], ["c"], ["d"]]
    assert slots.num_pinned == 1
    slots.unpin("a")
    slots.unpin("never pinned")
    assert list(slots.place(FakeAdapter("f"), "t").evicted) == ["a"]
    slots.check_integrity([])


def test_a_pin_is_minded_by_who_asks_for_a_slot_next() -> None:
    slots = SlotTable(2, make_shares("ab"))
    slots.place(FakeAdapter("a1"), "a")
    slots.acquire("a1", "a")
    slots.place(FakeAdapter("b1"), "b")
    assert slots.can_place(NEW, "c")
    slots.pin("b1", "b")
    assert not slots.can_place(NEW, "c")
    slots.unpin("b1")
    assert slots.can_place(NEW, "c")


def test_one_slot_is_never_pinned() -> None:
    slots = SlotTable(2, make_shares())
    slots.place(FakeAdapter("a"), "t")
    slots.place(FakeAdapter("b"), "t")
    assert slots.can_pin("a", "t")
    slots.pin("a", "t")
    slots.pin("a", "t")
    assert slots.can_pin("a", "t")
    assert not slots.can_pin("b", "t")
    with pytest.raises(LeaseError, match="never pinned"):
        slots.pin("b", "t")
    with pytest.raises(LeaseError, match="not on the device"):
        slots.pin("c", "t")


def test_a_tenant_pins_no_more_than_its_part_beside_others() -> None:
    slots = SlotTable(5, make_shares("tu"))
    for digest, tenant in (("a", "t"), ("b", "t"), ("c", "t"), ("d", "u")):
        slots.place(FakeAdapter(digest), tenant)
    for digest in "ab":
        assert slots.can_pin(digest, "t")
        slots.pin(digest, "t")
    assert not slots.can_pin("c", "t")
    assert slots.can_pin("d", "u")


def test_an_adapter_that_leaves_its_slot_is_no_longer_pinned() -> None:
    slots = SlotTable(2, make_shares())
    slots.place(FakeAdapter("a"), "t")
    slots.pin("a", "t")
    slots.vacate("a")
    assert slots.num_pinned == 0
    slots.check_integrity([])


def test_a_pin_is_charged_to_who_makes_it_not_to_who_brought_the_adapter() -> None:
    slots = SlotTable(8, make_shares("av"))
    for number in range(7):
        slots.place(FakeAdapter(f"v{number}"), "v")
    made = []
    for number in range(7):
        made.append(slots.can_pin(f"v{number}", "a"))
        if made[-1]:
            slots.pin(f"v{number}", "a")
    assert made == [True] * 3 + [False] * 4  # its share of the seven that may be pinned, next to the other's
    slots.place(FakeAdapter("own"), "v")
    assert slots.can_pin("own", "v")
    slots.check_integrity([])


def test_a_pin_of_what_another_has_pinned_is_no_cheaper_and_stays_when_the_other_ends() -> None:
    slots = SlotTable(5, make_shares("av"))
    for digest in ("x", "a1", "a2"):
        slots.place(FakeAdapter(digest), "v")
    slots.pin("x", "v")
    for digest in ("x", "a1"):
        assert slots.can_pin(digest, "a")
        slots.pin(digest, "a")
    assert not slots.can_pin("a2", "a")
    assert slots.num_pinned == 2
    slots.unpin("x", "v")
    assert slots.num_pinned == 2
    slots.unpin("x", "a")
    assert slots.num_pinned == 1
    slots.check_integrity([])


def test_what_could_leave_for_a_tenant_once_it_is_idle_is_that_with_the_fewest_leases() -> None:
    slots = SlotTable(3, make_shares("ab"))
    for digest in ("a1", "a2", "b1"):
        slots.place(FakeAdapter(digest), digest[0])
    for digest in ("a1", "a1", "a2", "b1"):
        slots.acquire(digest, digest[0])
    assert slots.to_keep_free(NEW, "b", ["a1", "a2"]) == ("b1",)
    assert slots.to_keep_free(NEW, "c", []) == ("a2",)
    assert slots.to_keep_free(NEW, "c", ["a2"]) == ("a1",)
    assert slots.to_keep_free(NEW, "a", ["a1", "a2"]) is None
    slots.pin("a2", "a")
    assert slots.to_keep_free(NEW, "c", []) == ("a1",)


# --- bytes -------------------------------------------------------------------------------------------------------


def sized(digest: str, size: int) -> FakeAdapter:
    return FakeAdapter(digest, size=size)


def test_room_is_made_by_bytes_however_many_slots_are_free() -> None:
    slots = SlotTable(8, make_shares(), 10)
    for digest, size in (("a", 4), ("b", 3), ("c", 3)):
        assert not slots.place(sized(digest, size), "t").evicted
    assert list(slots.place(sized("d", 6), "t").evicted) == ["a", "b"]
    assert (slots.digests(), slots.used_bytes) == (["c", "d"], 9)
    slots.check_integrity([])


def test_what_is_leased_is_not_evicted_for_its_bytes() -> None:
    slots = SlotTable(8, make_shares(), 10)
    slots.place(sized("a", 6), "t")
    lease = slots.acquire("a", "t")
    assert not slots.can_place(sized("b", 5), "t")
    assert slots.can_place(sized("c", 4), "t")
    slots.release(lease)
    assert slots.can_place(sized("b", 5), "t")


def test_one_large_adapter_counts_as_much_as_the_slots_whose_bytes_it_takes() -> None:
    slots = SlotTable(4, make_shares("ab"), 8)
    slots.place(sized("a1", 6), "a")
    slots.place(sized("b1", 1), "b")
    assert slots.can_place(sized("b2", 2), "b")
    assert list(slots.place(sized("b2", 2), "b").evicted) == ["a1"]
    assert list(slots.place(sized("a2", 6), "a").evicted) == [
        "b1"
    ]  # with nothing else of its own, it takes what it must
    slots.check_integrity([])


def test_half_of_the_bytes_are_never_pinned() -> None:
    slots = SlotTable(8, make_shares("t"), 10)
    for digest, size in (("a", 3), ("b", 3), ("c", 2)):
        slots.place(sized(digest, size), "t")
    slots.pin("a", "t")
    assert not slots.can_pin("b", "t")
    assert slots.can_pin("c", "t")
    with pytest.raises(LeaseError, match="half of the bytes"):
        slots.pin("b", "t")
    assert slots.could_ever_place(sized("d", 7))
    assert not slots.could_ever_place(sized("d", 8))
    slots.check_integrity([])


def test_free_bytes_that_lie_scattered_are_joined_by_evicting_what_lies_between() -> None:
    memory = {0: "a", 1: "b", 2: "c", 3: "d"}  # slot: one of four adjacent places of 2 bytes

    def fits(adapter: HostAdapter, emptied: Collection[int]) -> bool:
        free = [slot for slot in range(4) if slot not in memory or slot in emptied]
        return any(set(range(at, at + adapter.device_bytes // 2)) <= set(free) for at in range(4))

    slots = SlotTable(4, make_shares(), 8, fits)
    memory.clear()
    for digest in "abcd":
        memory[slots.place(sized(digest, 2), "t").slot] = digest
    for digest in "bd":
        lease = slots.acquire(digest, "t")
        slots.release(lease)  # used after a and c, which would go first and leave two gaps
    assert list(slots.place(sized("e", 4), "t").evicted) == ["a", "c", "b"]


class ByteMachine(RuleBasedStateMachine):
    """Adapters of many sizes for three tenants, leased and pinned at random, with few slots and few bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = SlotTable(4, make_shares("abc"), 12)
        self.leases: list[Lease] = []
        self.sizes: dict[str, int] = {}
        self.count = 0

    @rule(tenant=st.sampled_from("abc"), size=st.integers(0, 12))
    def place(self, tenant: str, size: int) -> None:
        self.count += 1
        adapter = sized(f"{tenant}{self.count}", size)
        possible = self.slots.can_place(adapter, tenant)
        leased = {lease.digest for lease in self.leases}
        pinned = {digest for digest in self.sizes if digest in self.slots._shares.pinned}
        if not possible:
            with pytest.raises(LeaseError):
                self.slots.place(adapter, tenant)
            assert leased or pinned  # nothing else keeps out an adapter that fits at all
            return
        for digest in self.slots.place(adapter, tenant).evicted:
            assert digest not in leased | pinned
            del self.sizes[digest]
        self.sizes[adapter.digest] = size

    @precondition(lambda self: self.sizes)
    @rule(index=st.integers(0, 9), tenant=st.sampled_from("abc"))
    def acquire(self, index: int, tenant: str) -> None:
        self.leases.append(self.slots.acquire(sorted(self.sizes)[index % len(self.sizes)], tenant))

    @precondition(lambda self: self.leases)
    @rule(index=st.integers(0, 9))
    def release(self, index: int) -> None:
        self.slots.release(self.leases.pop(index % len(self.leases)))

    @precondition(lambda self: self.sizes)
    @rule(index=st.integers(0, 9), tenant=st.sampled_from("abc"))
    def pin(self, index: int, tenant: str) -> None:
        digest = sorted(self.sizes)[index % len(self.sizes)]
        if self.slots.can_pin(digest, tenant):
            self.slots.pin(digest, tenant)

    @precondition(lambda self: self.sizes)
    @rule(index=st.integers(0, 9), tenant=st.sampled_from(["a", "b", "c", None]))
    def unpin(self, index: int, tenant: str | None) -> None:
        self.slots.unpin(sorted(self.sizes)[index % len(self.sizes)], tenant)

    @invariant()
    def accounts_are_whole(self) -> None:
        self.slots.check_integrity(self.leases)
        assert set(self.slots.digests()) == set(self.sizes)
        assert self.slots.used_bytes == sum(self.sizes.values()) <= 12
        assert self.slots.pinned_bytes <= 6


TestBytes = ByteMachine.TestCase
