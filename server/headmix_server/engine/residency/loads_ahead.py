"""Loads ahead: the adapters being loaded from disk and those loaded but without a slot yet, and limits on both.

Owns how much host memory each takes and which tenants it is loaded for. Knows neither the loader nor the slots.
"""

from collections.abc import Collection, Mapping

from headmix_server.core.runner import HostAdapter
from headmix_server.core.types import AdapterRef
from headmix_server.engine.residency.tenant_shares import TenantShares

LOAD_FACTOR = 3
"""The most memory that loading takes, as a multiple of the file's size: its bytes, and numbers twice as wide."""


class LoadsAhead:
    """`arrived` keeps loaded adapters until they get a slot, for waiting requests, even if the host cache evicts them.

    There are at most `most` loads and arrivals together, but a tenant with less than its part of these may always have
    one more. In bytes they are limited to half of host memory's budget, and a tenant that already has some of them to
    half of that half; a single load is always allowed. What is loaded before all others is held only to the limit on
    all bytes.
    """

    def __init__(self, shares: TenantShares, most: int, host_budget: int) -> None:
        self.shares = shares
        self.arrived: dict[str, HostAdapter] = {}
        self._most = most
        self._host_budget = host_budget
        self._loading: dict[str, int] = {}  # expected memory of each load in progress
        self._first_in_line: str | None = None  # a load that others are held back for until its bytes are free
        self._asked_for_first = False  # whether that load was requested since the last `invalidate`

    def invalidate(self) -> None:
        """Discard cached results, once per step: tenants may have come or gone, and loads ended."""
        self.shares.invalidate()
        if not self._asked_for_first:
            self._first_in_line = None
        self._asked_for_first = False

    def may_start(self, ref: AdapterRef, tenant: str) -> bool:
        """Return whether a tenant may start to load an adapter now."""
        return self._has_bytes(ref, tenant) and self._has_place(tenant)

    def may_start_first(self, ref: AdapterRef) -> bool:
        """Return whether an adapter may be loaded before all others; if not, they are held back until it has begun."""
        may_start = self._is_within(self.sizes(), ref)
        if not may_start:
            self._first_in_line, self._asked_for_first = ref.digest, True
        return may_start

    def in_the_way_of(self, ref: AdapterRef, needed: Collection[str]) -> list[str]:
        """Return the arrivals that leave no bytes to load an adapter, empty if it could not begin without them either.

        `needed` are the adapters that do not leave for it.
        """
        others = [digest for digest in self.arrived if digest not in needed]
        rest = {digest: size for digest, size in self.sizes().items() if digest not in others}
        return others if self._is_within(rest, ref) else []

    def start(self, ref: AdapterRef, tenant: str) -> None:
        """Count a load that begins."""
        self.shares.charge(ref.digest, tenant)
        self._loading[ref.digest] = LOAD_FACTOR * ref.size_bytes
        if self._first_in_line == ref.digest:
            self._first_in_line = None

    def arrive(self, adapter: HostAdapter) -> None:
        """Keep an adapter whose load has finished, until `drop`."""
        self._loading.pop(adapter.digest, None)
        self.arrived[adapter.digest] = adapter

    def fail(self, digest: str) -> None:
        """Count a load that ended without an adapter."""
        self._loading.pop(digest, None)
        self.shares.drop(digest)

    def drop(self, digest: str) -> bool:
        """Stop keeping a loaded adapter; returns False if there is none with this digest."""
        if self.arrived.pop(digest, None) is None:
            return False
        self.shares.drop(digest)
        return True

    def users(self, digest: str) -> Collection[str]:
        """Return the tenants that an adapter is loaded for."""
        return self.shares.users(digest)

    def sizes(self) -> dict[str, int]:
        """Return how much host memory each load in progress and each arrival takes."""
        return self._loading | {digest: adapter.host_bytes for digest, adapter in self.arrived.items()}

    def check_integrity(self, pending: Collection[str]) -> None:
        """Check the accounting; `pending` are the loads in progress.

        Raises:
            RuntimeError: the accounting is broken.
        """
        self.shares.check_integrity({*pending, *self.arrived})
        if self._loading.keys() != set(pending):
            raise RuntimeError("the loads whose bytes are known are not those in progress")
        if any(digest != adapter.digest for digest, adapter in self.arrived.items()):
            raise RuntimeError("an adapter has arrived under another's name")

    def _has_bytes(self, ref: AdapterRef, tenant: str) -> bool:
        more, ahead = LOAD_FACTOR * ref.size_bytes, self.sizes()
        own = sum(size for digest, size in ahead.items() if tenant in self.shares.users(digest))
        if more and own and own + more > self._host_budget // 4:
            return False
        if not self._is_within(ahead, ref):
            self._first_in_line = self._first_in_line or ref.digest
            self._asked_for_first |= self._first_in_line == ref.digest
            return False
        return self._first_in_line in (None, ref.digest)

    def _is_within(self, ahead: Mapping[str, int], ref: AdapterRef) -> bool:
        """Return whether a load beside these, each with its bytes, keeps to the limit on all bytes."""
        more = LOAD_FACTOR * ref.size_bytes
        return not ahead or not more or sum(ahead.values()) + more <= self._host_budget // 2

    def _has_place(self, tenant: str) -> bool:
        return len(self.shares) < self._most or not self.shares.has_part(tenant, self._most)
