"""The host-memory tier: adapters kept after they leave the device, least recently used first out.

Owns which adapters stay, charged to tenants as slots are; what an adapter in host memory is, the runner knows.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from types import MappingProxyType

from headmix_server.core.runner import HostAdapter
from headmix_server.engine.shares import Shares


class HostCache:
    """At most `capacity` adapters in host memory; 0 keeps none."""

    def __init__(self, capacity: int, shares: Shares) -> None:
        self.capacity = capacity
        self._shares = shares
        self._adapters: OrderedDict[str, HostAdapter] = OrderedDict()

    def __contains__(self, digest: str) -> bool:
        return digest in self._adapters

    def get(self, digest: str) -> HostAdapter | None:
        """Return the adapter and mark it used, or None."""
        adapter = self._adapters.get(digest)
        if adapter is not None:
            self._adapters.move_to_end(digest)
        return adapter

    def use(self, digest: str, tenant: str) -> None:
        """Note that a tenant uses an adapter, if it is here: it is charged to that one too."""
        if self.get(digest) is not None:
            self._shares.charge(digest, tenant)

    def users(self, digest: str) -> tuple[str, ...]:
        """Return the tenants that an adapter is charged to, nobody for one that is not here."""
        return self._shares.users(digest)

    @property
    def full(self) -> bool:
        """Whether another adapter makes one leave."""
        return len(self._adapters) >= self.capacity

    def put(
        self, adapter: HostAdapter, tenants: Collection[str], wanted: Mapping[str, int] = MappingProxyType({})
    ) -> list[str]:
        """Keep an adapter of these tenants; returns the digests dropped to make room, `wanted` ones last.

        Who holds most for its weight makes room (`Shares`), and that may be one of these.
        """
        if self.capacity == 0:
            return []
        self._adapters[adapter.digest] = adapter
        self._adapters.move_to_end(adapter.digest)
        for tenant in tenants:
            self._shares.charge(adapter.digest, tenant)
        dropped = []
        while len(self._adapters) > self.capacity:
            dropped.append(self._shares.choose_surplus(self._adapters, wanted))
            self.forget(dropped[-1])
        return dropped

    def forget(self, digest: str) -> None:
        """Drop an adapter; one that is not here is no error."""
        self._adapters.pop(digest, None)
        self._shares.drop(digest)

    def digests(self) -> list[str]:
        """Return the adapters here, least recently used first."""
        return list(self._adapters)

    def check_integrity(self) -> None:
        """Check that what is here is charged, and no more than fits is here.

        Raises:
            RuntimeError: the accounting is broken.
        """
        self._shares.check_integrity(self._adapters)
        if len(self._adapters) > self.capacity:
            raise RuntimeError("host memory holds more than it may")
        if any(digest != adapter.digest for digest, adapter in self._adapters.items()):
            raise RuntimeError("host memory holds an adapter under another's name")
