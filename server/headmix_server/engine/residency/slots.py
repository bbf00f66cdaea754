"""Accounting of adapter slots: which adapter each slot holds, which leases are out, and which adapters may be evicted.

Owns slot numbers, generations, leases and pins. The device owns the tensors; `tenant_shares` decides which tenant gives
up a slot. A slot's generation increases whenever its content changes, so a lease can never silently come to mean
another adapter.
"""

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from types import MappingProxyType

from headmix_server.core.runner import HostAdapter, Lease
from headmix_server.engine.config import UNBOUNDED
from headmix_server.engine.residency.tenant_shares import Cost, TenantShares, View
from headmix_server.engine.residency.victims import choose_victims


class LeaseError(Exception):
    """A slot or lease was requested that is not available, or a lease was returned that is not held."""


@dataclass(slots=True)
class _Slot:
    """One slot; `digest` is None if it is free."""

    index: int
    digest: str | None = None
    generation: int = 0
    leases: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Placement:
    """The slot an adapter was given, and the adapters evicted for it, each with the slot it had."""

    slot: int
    generation: int
    evicted: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SlotCounts:
    """How many slots are free, leased, and occupied without a lease."""

    free: int
    leased: int
    idle: int


class SlotTable:
    """A fixed number of slots and a byte budget for all their adapters, charged to tenants.

    An adapter costs its tenants one slot, or more if it takes more bytes than one slot's part of the `budget`. `fits`
    returns whether the device has a place for an adapter once the given slots are empty: free bytes may be fragmented.

    Of the adapters without lease or pin that a tenant may evict (`victims`), the least recently used one that no queued
    request wants goes first.
    """

    def __init__(
        self,
        num_slots: int,
        shares: TenantShares,
        budget: int = UNBOUNDED,
        fits: Callable[[HostAdapter, Collection[int]], bool] = lambda adapter, emptied: True,
    ) -> None:
        self._shares = shares
        self.budget = budget
        self._fits = fits
        self._bytes: dict[str, int] = {}
        self.used_bytes = 0
        self._view: View | None = None  # the present tenants, for all decisions until they may have changed
        # by tenant and size: an adapter, and whether it can be placed; valid for the current `_view`
        self._placeable: dict[tuple[str, int], tuple[HostAdapter, bool]] = {}
        self._slots = [_Slot(index) for index in range(num_slots)]
        self._free = deque(range(num_slots))
        self._by_digest: dict[str, _Slot] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()  # occupied and unleased, least recently used first
        self._serials = itertools.count(1)
        self._kept: frozenset[str] = frozenset()

    def holds(self, digest: str) -> bool:
        """Return whether the adapter has a slot."""
        return digest in self._by_digest

    @property
    def num_free(self) -> int:
        """Number of empty slots."""
        return len(self._free)

    def has_room(self, adapter: HostAdapter) -> bool:
        """Return whether there is room for an adapter without evicting any."""
        return self._is_enough(adapter, ())

    def could_ever_place(self, adapter: HostAdapter, kept: Collection[str] = ()) -> bool:
        """Return whether there would be room if only the pinned and the `kept` adapters were on the device."""
        staying = {*self._shares.pinned, *kept}
        return self._is_enough(adapter, [digest for digest in self._by_digest if digest not in staying])

    def can_place(self, adapter: HostAdapter, tenant: str) -> bool:
        """Return whether there is room, or can be made by evicting idle adapters that the tenant may evict.

        The result is computed once for all adapters of a size; `place` makes the final decision.
        """
        if self.has_room(adapter):
            return True
        key = (tenant, adapter.device_bytes)
        if key not in self._placeable:
            self._placeable[key] = (adapter, self._victims(self._idle, adapter, tenant, {}) is not None)
        return self._placeable[key][1]

    def _victims(
        self, candidates: Iterable[str], adapter: HostAdapter, tenant: str, queued: Mapping[str, int]
    ) -> tuple[str, ...] | None:
        """Return the adapters that leave for a tenant's adapter, empty if there is room; None if there can be none."""
        if self._view is None:
            self._view = self._shares.view()
        enough = partial(self._is_enough, adapter)
        cost = self._cost_of(adapter.device_bytes)
        return choose_victims(
            self._shares, candidates, tenant, cost, enough, view=self._view, queued=queued, kept=self._kept
        )

    def _is_enough(self, adapter: HostAdapter, leaving: Collection[str]) -> bool:
        """Return whether there is room for an adapter once these have left."""
        used = self.used_bytes - sum(self._bytes[digest] for digest in leaving)
        if len(self._free) + len(leaving) < 1 or used + adapter.device_bytes > self.budget:
            return False
        return self._fits(adapter, [self._by_digest[digest].index for digest in leaving])

    def _cost_of(self, size: int) -> Cost:
        return max(Fraction(1), Fraction(size * len(self._slots), self.budget))

    def _changed(self) -> None:
        """Discard cached results about what could leave."""
        self._view = None
        self._placeable.clear()

    def invalidate(self) -> None:
        """Discard cached results: tenants may have come or gone, or weights changed."""
        self._changed()
        self._shares.invalidate()

    def keep(self, digests: Iterable[str]) -> None:
        """From now on, until the next call, these adapters make room for no other, wherever they are.

        Only one request at a time may have its adapters kept (`engine.scheduling.gathering`); a forgotten one may go.
        """
        kept = frozenset(digests)
        if kept != self._kept:
            self._kept = kept
            self._placeable.clear()

    @contextmanager
    def keeping(self, digests: Iterable[str]) -> Iterator[None]:
        """Keep these adapters as well for a `with` block."""
        before = self._kept
        self.keep(before.union(digests))
        try:
            yield
        finally:
            self.keep(before)

    def place(self, adapter: HostAdapter, tenant: str, queued: Mapping[str, int] = MappingProxyType({})) -> Placement:
        """Give a tenant's adapter a slot, evicting idle adapters if there is no room, `queued` ones last.

        Raises:
            LeaseError: no slot is available to the tenant, or the adapter already has one.
        """
        digest = adapter.digest
        if digest in self._by_digest:
            raise LeaseError(f"{digest} has a slot already")
        victims = self._victims(self._idle, adapter, tenant, queued)
        if victims is None and queued:
            victims = self._victims(self._idle, adapter, tenant, {})
        if victims is None:
            raise LeaseError("every slot is leased, pinned, or another tenant's to keep")
        evicted = {victim: self.vacate(victim) for victim in victims}
        slot = self._slots[self._free.popleft()]
        slot.digest = digest
        slot.generation += 1
        self._by_digest[digest] = slot
        self._idle[digest] = None
        self._bytes[digest] = adapter.device_bytes
        self.used_bytes += adapter.device_bytes
        self._shares.charge(digest, tenant, self._cost_of(adapter.device_bytes))
        self._changed()
        return Placement(slot.index, slot.generation, evicted)

    def vacate(self, digest: str) -> int:
        """Empty the adapter's slot, removing its pins, and return the slot's number.

        Raises:
            LeaseError: it is leased, or the adapter has no slot.
        """
        slot = self._slot_of(digest)
        if slot.leases:
            raise LeaseError(f"{digest} is leased")
        del self._by_digest[digest]
        del self._idle[digest]
        self.used_bytes -= self._bytes.pop(digest)
        self._shares.drop(digest)
        self._changed()
        slot.digest = None
        slot.generation += 1
        self._free.append(slot.index)
        return slot.index

    def acquire(self, digest: str, tenant: str) -> Lease:
        """Lease the adapter's slot for a tenant.

        Raises:
            LeaseError: the adapter has no slot.
        """
        slot = self._slot_of(digest)
        serial = next(self._serials)
        slot.leases.add(serial)
        self._idle.pop(digest, None)
        self._shares.charge(digest, tenant)
        self._changed()
        return Lease(slot.index, slot.generation, serial, digest)

    def release(self, lease: Lease) -> None:
        """Return a lease.

        Raises:
            LeaseError: it is not held, for example because it was returned before.
        """
        if not self.is_current(lease):
            raise LeaseError(f"lease {lease.serial} on slot {lease.slot} is not held")
        slot = self._slots[lease.slot]
        slot.leases.remove(lease.serial)
        if not slot.leases:
            self._idle[lease.digest] = None
            self._changed()

    def is_current(self, lease: Lease) -> bool:
        """Return whether the lease is held and the slot still holds exactly what was leased."""
        slot = self._slots[lease.slot]
        return slot.generation == lease.generation and slot.digest == lease.digest and lease.serial in slot.leases

    def _slot_of(self, digest: str) -> _Slot:
        slot = self._by_digest.get(digest)
        if slot is None:
            raise LeaseError(f"{digest} is not on the device")
        return slot

    # --- pins ----------------------------------------------------------------------------------------------------

    @property
    def num_pinned(self) -> int:
        """Number of pinned adapters."""
        return len(self._shares.pinned)

    @property
    def pinned_bytes(self) -> int:
        """Total bytes of the pinned adapters."""
        return sum(self._bytes[digest] for digest in self._shares.pinned)

    def can_pin(self, digest: str, tenant: str) -> bool:
        """Return whether the tenant may pin an adapter.

        One slot and half of the bytes always stay unpinned; of the rest, the tenant may pin its part. Pins of others,
        even of the same adapter, do not make its own pin cheaper.
        """
        if self._shares.has_pinned(tenant, digest):
            return True
        places, size = len(self._slots) - 1, self._bytes.get(digest, 0)
        if digest not in self._shares.pinned and not self._may_be_pinned(size):
            return False
        pinned = self._shares.pinned_cost(tenant)
        after = pinned + self._cost_of(size)
        return places > 0 and (not pinned or after <= self._shares.part_of(tenant, places))

    def _may_be_pinned(self, size: int) -> bool:
        return self.num_pinned < len(self._slots) - 1 and self.pinned_bytes + size <= self.budget // 2

    def pin(self, digest: str, tenant: str) -> None:
        """Keep an adapter in its slot for a tenant, leased or not, until `unpin` or `vacate`.

        Raises:
            LeaseError: it has no slot, or all slots but one or half of the bytes are already pinned.
        """
        self._slot_of(digest)
        if digest not in self._shares.pinned and not self._may_be_pinned(self._bytes[digest]):
            raise LeaseError("one slot and half of the bytes are never pinned")
        self._shares.pin(digest, tenant)
        self._changed()

    def unpin(self, digest: str, tenant: str | None = None) -> None:
        """End a tenant's pin, or (None) all tenants' pins; does nothing if there is none."""
        self._shares.unpin(digest, tenant)
        self._changed()

    # --- state ---------------------------------------------------------------------------------------------------

    def to_keep_free(self, adapter: HostAdapter, tenant: str, passed_over: Collection[str]) -> tuple[str, ...] | None:
        """Return which adapters could leave for a tenant's adapter once idle, those with the fewest leases first.

        None if all of them together would not be enough, or the tenant may not evict them.
        """
        others = [digest for digest in self._by_digest if digest not in passed_over]
        others.sort(key=lambda digest: len(self._by_digest[digest].leases))
        return self._victims(others, adapter, tenant, {})

    def users(self, digest: str) -> tuple[str, ...]:
        """Return the tenants that an adapter on the device is charged to."""
        return self._shares.users(digest)

    def lease_counts(self) -> dict[str, int]:
        """Return the number of leases of every leased adapter."""
        return {digest: len(slot.leases) for digest, slot in self._by_digest.items() if slot.leases}

    def digests(self) -> list[str]:
        """Return the adapters on the device."""
        return list(self._by_digest)

    def counts(self) -> SlotCounts:
        """Count the slots by state."""
        idle = len(self._idle)
        return SlotCounts(free=len(self._free), leased=len(self._by_digest) - idle, idle=idle)

    def check_integrity(self, leases: Collection[Lease]) -> None:
        """Check that exactly these leases are out, each current, and that every slot is free, idle or leased.

        Raises:
            RuntimeError: the accounting is broken.
        """
        known = sorted((lease.slot, lease.serial) for lease in leases if self.is_current(lease))
        held = sorted((slot.index, serial) for slot in self._slots for serial in slot.leases)
        if known != held or len(known) != len(leases):
            raise RuntimeError(f"leases held {held} are not those known {known}")
        if self._idle.keys() != {slot.digest for slot in self._slots if slot.digest is not None and not slot.leases}:
            raise RuntimeError("the idle list does not match the slots")
        if sorted(self._free) != [slot.index for slot in self._slots if slot.digest is None]:
            raise RuntimeError("the free list does not match the slots")
        if {slot.index: slot.digest for slot in self._slots if slot.digest is not None} != {
            slot.index: digest for digest, slot in self._by_digest.items()
        }:
            raise RuntimeError("an adapter stands in two slots or in none")
        if self.num_pinned >= max(1, len(self._slots)):
            raise RuntimeError("every slot is pinned")
        self._shares.check_integrity(self._by_digest)
        if self._bytes.keys() != self._by_digest.keys() or self.used_bytes != sum(self._bytes.values()):
            raise RuntimeError("the bytes on the device are not those of its adapters")
        if self.used_bytes > self.budget:
            raise RuntimeError("the device holds more bytes than it may")
        if self.num_pinned and self.pinned_bytes > self.budget // 2:
            raise RuntimeError("more than half of the bytes are pinned")
        self._check_placeable()

    def _check_placeable(self) -> None:
        for (tenant, _), (adapter, placeable) in self._placeable.items():
            if placeable != (self._victims(self._idle, adapter, tenant, {}) is not None):
                raise RuntimeError("whether a slot can be had is not what was found out")
