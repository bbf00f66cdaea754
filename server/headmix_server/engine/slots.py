"""Accounting of adapter slots: which adapter each slot holds, who leases it, and which may be evicted.

Owns slot numbers, generations and leases; the tensors are the device's. A slot's generation rises every time its
content changes, so a lease can never silently come to mean another adapter.
"""

import itertools
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from headmix_server.engine.runner import Lease


class LeaseError(Exception):
    """A lease was returned twice, or is not one of this table's."""


class SlotState(Enum):
    """Life of a slot's content."""

    FREE = "free"
    LOADING = "loading"
    READY = "ready"


@dataclass(slots=True)
class _Slot:
    index: int
    state: SlotState = SlotState.FREE
    digest: str = ""
    generation: int = 0
    leases: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class SlotCounts:
    """How many slots are in which condition; leased and idle are both ready."""

    free: int
    loading: int
    leased: int
    idle: int


class SlotTable:
    """A fixed number of slots; least recently used first among those without a lease."""

    def __init__(self, num_slots: int) -> None:
        self._slots = [_Slot(index) for index in range(num_slots)]
        self._by_digest: dict[str, _Slot] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # ready and unleased, least recently used first
        self._serials = itertools.count(1)

    def state(self, digest: str) -> SlotState:
        """Return the state of the adapter's slot; FREE where it has none."""
        slot = self._by_digest.get(digest)
        return SlotState.FREE if slot is None else slot.state

    def acquire(self, digest: str) -> Lease:
        """Lease the adapter's slot, which must be READY.

        Raises:
            LeaseError: the adapter is not on the device.
        """
        slot = self._by_digest.get(digest)
        if slot is None or slot.state is not SlotState.READY:
            raise LeaseError(f"{digest} is not on the device")
        serial = next(self._serials)
        slot.leases.add(serial)
        self._idle.pop(slot.index, None)
        return Lease(slot.index, slot.generation, serial, digest)

    def release(self, lease: Lease) -> None:
        """Return a lease.

        Raises:
            LeaseError: it was returned before, or the slot holds something else by now.
        """
        slot = self._slots[lease.slot]
        if not self.is_current(lease):
            raise LeaseError(f"lease {lease.serial} on slot {lease.slot} is not held")
        slot.leases.remove(lease.serial)
        if not slot.leases:
            self._idle[slot.index] = None

    def is_current(self, lease: Lease) -> bool:
        """Tell whether the slot still holds exactly what was leased."""
        slot = self._slots[lease.slot]
        return slot.generation == lease.generation and slot.digest == lease.digest and lease.serial in slot.leases

    def can_reserve(self) -> bool:
        """Tell whether a slot is free or can be made so by evicting an idle adapter."""
        return bool(self._idle) or any(slot.state is SlotState.FREE for slot in self._slots)

    def reserve(self, digest: str) -> tuple[int, int, str | None]:
        """Take a slot for an adapter about to load; returns slot, generation and the digest evicted for it, if any.

        Raises:
            LeaseError: every slot is leased or loading, or the adapter has a slot already.
        """
        if digest in self._by_digest:
            raise LeaseError(f"{digest} has a slot already")
        slot = next((slot for slot in self._slots if slot.state is SlotState.FREE), None)
        evicted = None
        if slot is None:
            if not self._idle:
                raise LeaseError("every slot is leased or loading")
            slot = self._slots[next(iter(self._idle))]
            evicted = slot.digest
            self._vacate(slot)
        slot.state, slot.digest = SlotState.LOADING, digest
        slot.generation += 1
        self._by_digest[digest] = slot
        return slot.index, slot.generation, evicted

    def make_ready(self, digest: str) -> None:
        """Mark a reserved slot's adapter as installed."""
        slot = self._by_digest[digest]
        slot.state = SlotState.READY
        self._idle[slot.index] = None

    def vacate(self, digest: str) -> int:
        """Empty an unleased slot (a failed load, a forgotten adapter) and return its number.

        Raises:
            LeaseError: it is leased.
        """
        slot = self._by_digest[digest]
        if slot.leases:
            raise LeaseError(f"{digest} is leased")
        self._vacate(slot)
        return slot.index

    def _vacate(self, slot: _Slot) -> None:
        del self._by_digest[slot.digest]
        self._idle.pop(slot.index, None)
        slot.state, slot.digest = SlotState.FREE, ""
        slot.generation += 1

    def leased_digests(self) -> dict[str, int]:
        """Return the number of leases of every leased adapter."""
        return {digest: len(slot.leases) for digest, slot in self._by_digest.items() if slot.leases}

    def ready_digests(self) -> list[str]:
        """Return the adapters on the device."""
        return [digest for digest, slot in self._by_digest.items() if slot.state is SlotState.READY]

    def counts(self) -> SlotCounts:
        """Count the slots by condition."""
        states = [slot.state for slot in self._slots]
        leased = sum(1 for slot in self._slots if slot.leases)
        ready = states.count(SlotState.READY)
        return SlotCounts(states.count(SlotState.FREE), states.count(SlotState.LOADING), leased, ready - leased)

    def check_integrity(self, leases: Iterable[Lease]) -> None:
        """Check that exactly these leases are out, each current, and that no slot is both idle and leased.

        Raises:
            RuntimeError: the accounting is broken.
        """
        expected = {(lease.slot, lease.serial) for lease in leases if self.is_current(lease)}
        held = {(slot.index, serial) for slot in self._slots for serial in slot.leases}
        if expected != held or len(expected) != len(list(leases)):
            raise RuntimeError(f"leases held {sorted(held)} are not those known {sorted(expected)}")
        idle = {s.index for s in self._slots if s.state is SlotState.READY and not s.leases}
        if idle != set(self._idle):
            raise RuntimeError("the idle list does not match the slots")
        if len(self._by_digest) != sum(1 for slot in self._slots if slot.state is not SlotState.FREE):
            raise RuntimeError("an adapter stands in two slots or in none")
