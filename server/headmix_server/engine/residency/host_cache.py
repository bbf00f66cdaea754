"""The host-memory tier: adapters kept after they leave the device, evicted in least-recently-used order.

Owns the choice of adapters to keep, charged to tenants as slots are; the runner defines what is kept of an adapter.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from fractions import Fraction
from types import MappingProxyType

from headmix_server.core.runner import HostAdapter
from headmix_server.engine.config import UNBOUNDED
from headmix_server.engine.residency.tenant_shares import TenantShares


class HostCache:
    """At most `capacity` adapters in host memory; 0 keeps none. The bytes they may take vary: see `trim`.

    An adapter costs its tenants one place, or more if it takes more bytes than one place's part of the `budget`.
    """

    def __init__(self, capacity: int, shares: TenantShares, budget: int = UNBOUNDED) -> None:
        self.capacity = capacity
        self._budget = budget
        self._shares = shares
        self.used_bytes = 0
        self._adapters: OrderedDict[str, HostAdapter] = OrderedDict()

    def __contains__(self, digest: str) -> bool:
        return digest in self._adapters

    def get(self, digest: str) -> HostAdapter | None:
        """Return the adapter and mark it as used, or None."""
        adapter = self._adapters.get(digest)
        if adapter is not None:
            self._adapters.move_to_end(digest)
        return adapter

    def peek(self, digest: str) -> HostAdapter | None:
        """Return the adapter without marking it as used, or None."""
        return self._adapters.get(digest)

    def use(self, digest: str, tenant: str) -> None:
        """Mark an adapter, if it is here, as used by a tenant, which is then charged for it too."""
        if self.get(digest) is not None:
            self._shares.charge(digest, tenant)

    def users(self, digest: str) -> tuple[str, ...]:
        """Return the tenants that an adapter is charged to; empty for an adapter that is not here."""
        return self._shares.users(digest)

    @property
    def full(self) -> bool:
        """Whether adding another adapter evicts one."""
        return len(self._adapters) >= self.capacity

    def put(
        self, adapter: HostAdapter, tenants: Collection[str], wanted: Mapping[str, int] = MappingProxyType({})
    ) -> list[str]:
        """Keep an adapter of these tenants; returns the digests evicted to make room, `wanted` ones last.

        The tenant that holds the most for its weight makes room (`TenantShares`); it may be one of these tenants.
        """
        if self.capacity == 0:
            return []
        if adapter.digest not in self._adapters:
            self.used_bytes += adapter.host_bytes
        self._adapters[adapter.digest] = adapter
        self._adapters.move_to_end(adapter.digest)
        cost = max(Fraction(1), Fraction(adapter.host_bytes * self.capacity, self._budget))
        for tenant in tenants:
            self._shares.charge(adapter.digest, tenant, cost)
        dropped = []
        while len(self._adapters) > self.capacity:
            dropped.append(self._shares.choose_surplus(self._adapters, wanted))
            self.forget(dropped[-1])
        return dropped

    def trim(self, excess: int, keep: Collection[str], wanted: Mapping[str, int]) -> list[str]:
        """Evict adapters until at least `excess` bytes are free or only those to `keep` remain; returns the evicted."""
        dropped = []
        while excess > 0 and (candidates := [digest for digest in self._adapters if digest not in keep]):
            dropped.append(self._shares.choose_surplus(candidates, wanted))
            excess -= self._adapters[dropped[-1]].host_bytes
            self.forget(dropped[-1])
        return dropped

    def forget(self, digest: str) -> None:
        """Drop an adapter; does nothing if it is not here."""
        adapter = self._adapters.pop(digest, None)
        self.used_bytes -= 0 if adapter is None else adapter.host_bytes
        self._shares.drop(digest)

    def digests(self) -> list[str]:
        """Return the adapters here, least recently used first."""
        return list(self._adapters)

    def check_integrity(self) -> None:
        """Check that every adapter here is charged, and that there are no more than fit.

        Raises:
            RuntimeError: the accounting is broken.
        """
        self._shares.check_integrity(self._adapters)
        if len(self._adapters) > self.capacity:
            raise RuntimeError("host memory holds more than it may")
        if self.used_bytes != sum(adapter.host_bytes for adapter in self._adapters.values()):
            raise RuntimeError("the bytes in host memory are not those of its adapters")
        if any(digest != adapter.digest for digest, adapter in self._adapters.items()):
            raise RuntimeError("host memory holds an adapter under another's name")
