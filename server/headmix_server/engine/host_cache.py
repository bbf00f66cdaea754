"""The host-memory tier: adapters kept after they leave the device, least recently used first out.

Owns which adapters stay; what an adapter in host memory is, the runner knows.
"""

from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType

from headmix_server.core.runner import HostAdapter
from headmix_server.engine.eviction import choose_victim


class HostCache:
    """At most `capacity` adapters in host memory; 0 keeps none."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._adapters: OrderedDict[str, HostAdapter] = OrderedDict()

    def __contains__(self, digest: str) -> bool:
        return digest in self._adapters

    def get(self, digest: str) -> HostAdapter | None:
        """Return the adapter and mark it used, or None."""
        adapter = self._adapters.get(digest)
        if adapter is not None:
            self._adapters.move_to_end(digest)
        return adapter

    def put(self, adapter: HostAdapter, wanted: Mapping[str, int] = MappingProxyType({})) -> list[str]:
        """Keep an adapter; returns the digests dropped to make room, `wanted` ones last (see `choose_victim`)."""
        if self.capacity == 0:
            return []
        self._adapters[adapter.digest] = adapter
        self._adapters.move_to_end(adapter.digest)
        dropped = []
        while len(self._adapters) > self.capacity:
            dropped.append(choose_victim(self._adapters, wanted))
            del self._adapters[dropped[-1]]
        return dropped

    def forget(self, digest: str) -> None:
        """Drop an adapter; one that is not here is no error."""
        self._adapters.pop(digest, None)

    def digests(self) -> list[str]:
        """Return the adapters here, least recently used first."""
        return list(self._adapters)
