"""Loads ahead: the adapters on their way from disk and those that arrived and wait for a slot, and how many may be.

Owns what each takes of host memory and for which tenants it is loaded. Knows neither the loader nor the slots.
"""

from collections.abc import Collection

from headmix_server.core.runner import HostAdapter
from headmix_server.core.types import AdapterRef
from headmix_server.engine.residency.tenant_shares import TenantShares

LOAD_FACTOR = 3
"""How many times a file's size loading it takes at most: its bytes, and numbers made twice as wide."""


class LoadsAhead:
    """`arrived` keeps what came from disk until it has a slot, for requests that wait, whatever the host cache drops.

    At most `most` loads and arrivals together; a tenant with less than its part of that may have one more all the same.
    In bytes they are bounded by half of host memory's budget, of which a tenant that has some already gets no more than
    half; one load alone is always begun.
    """

    def __init__(self, shares: TenantShares, most: int, host_budget: int) -> None:
        self.shares = shares
        self.arrived: dict[str, HostAdapter] = {}
        self._most = most
        self._host_budget = host_budget
        self._loading: dict[str, int] = {}  # what each load in progress is expected to take
        self._first_in_line: str | None = None  # a load that others are held back for, until its bytes are free
        self._asked_for_first = False  # whether that one was asked for since the last `invalidate`

    def invalidate(self) -> None:
        """Drop what was computed before, once a step: tenants may have come or gone, and loads ended."""
        self.shares.invalidate()
        if not self._asked_for_first:
            self._first_in_line = None
        self._asked_for_first = False

    def may_start(self, ref: AdapterRef, tenant: str) -> bool:
        """Return whether a tenant may start to load an adapter now."""
        return self._has_bytes(ref, tenant) and self._has_place(tenant)

    def start(self, ref: AdapterRef, tenant: str) -> None:
        """Count a load that begins."""
        self.shares.charge(ref.digest, tenant)
        self._loading[ref.digest] = LOAD_FACTOR * ref.size_bytes
        if self._first_in_line == ref.digest:
            self._first_in_line = None

    def arrive(self, adapter: HostAdapter) -> None:
        """Keep an adapter whose load has ended, until `drop`."""
        self._loading.pop(adapter.digest, None)
        self.arrived[adapter.digest] = adapter

    def fail(self, digest: str) -> None:
        """Count a load that ended without an adapter."""
        self._loading.pop(digest, None)
        self.shares.drop(digest)

    def drop(self, digest: str) -> bool:
        """Keep an arrival no longer; false if there is none."""
        if self.arrived.pop(digest, None) is None:
            return False
        self.shares.drop(digest)
        return True

    def users(self, digest: str) -> Collection[str]:
        """Return the tenants an adapter is loaded for."""
        return self.shares.users(digest)

    def sizes(self) -> dict[str, int]:
        """Return what loads in progress and arrivals take of host memory."""
        return self._loading | {digest: adapter.host_bytes for digest, adapter in self.arrived.items()}

    def check_integrity(self, pending: Collection[str]) -> None:
        """Check the accounts; `pending` are the loads in progress.

        Raises:
            RuntimeError: the accounting is broken.
        """
        self.shares.check_integrity({*pending, *self.arrived})
        if self._loading.keys() != set(pending):
            raise RuntimeError("the loads whose bytes are known are not those in progress")
        if any(digest != adapter.digest for digest, adapter in self.arrived.items()):
            raise RuntimeError("an adapter has arrived under another's name")

    def _has_bytes(self, ref: AdapterRef, tenant: str) -> bool:
        more, most = LOAD_FACTOR * ref.size_bytes, self._host_budget // 2
        ahead = self.sizes()
        if not ahead or not more:
            return self._first_in_line in (None, ref.digest)
        own = sum(size for digest, size in ahead.items() if tenant in self.shares.users(digest))
        if own and own + more > most // 2:
            return False
        if sum(ahead.values()) + more > most:
            self._first_in_line = self._first_in_line or ref.digest
            self._asked_for_first |= self._first_in_line == ref.digest
            return False
        return self._first_in_line in (None, ref.digest)

    def _has_place(self, tenant: str) -> bool:
        return len(self.shares) < self._most or not self.shares.has_part(tenant, self._most)
