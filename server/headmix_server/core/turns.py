"""Whose turn it is: of the tenants that wait, each is let in once before any is let in again.

Owns the order, nothing that waits: who uses it brings the futures or events, and the lock where there are threads.
"""

from collections import Counter, deque
from typing import Generic, TypeVar

T = TypeVar("T")

SERVER = ""
"""Stands for the server's own work, which is let in before every tenant's."""


class TurnOrder(Generic[T]):
    """Lets in at most `at_once` at a time, of one tenant at most `most_each`, each tenant's own in their order.

    Tenants with fewer at work come first, and among those with equally many the one let in longest ago.
    """

    def __init__(self, at_once: int = 1, most_each: int | None = None) -> None:
        self._at_once = at_once
        self._most_each = at_once if most_each is None else most_each
        self._at_work: Counter[str] = Counter()
        self._lines: dict[str, deque[T]] = {}
        """By tenant, in the order of their next turns; no tenant has an empty line."""

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._lines.values()))

    def waiting(self, tenant: str) -> int:
        """Return how many of the tenant wait."""
        return len(self._lines.get(tenant, ()))

    def join(self, tenant: str, item: T) -> None:
        """Wait for a turn."""
        self._lines.setdefault(tenant, deque()).append(item)

    def leave(self, tenant: str, item: T) -> None:
        """Wait no longer.

        Raises:
            ValueError: it does not wait.
        """
        line = self._lines.get(tenant)
        if line is None:
            raise ValueError(f"{tenant!r} does not wait")
        line.remove(item)
        if not line:
            del self._lines[tenant]

    def take(self) -> T | None:
        """Return who is let in now, None if nobody waits or may. Its turn lasts until `end`."""
        if self._at_work.total() >= self._at_once:
            return None
        allowed = [tenant for tenant in self._lines if self._at_work[tenant] < self._most_each]
        if not allowed:
            return None
        tenant = min(allowed, key=lambda name: (name != SERVER, self._at_work[name]))
        item = self._lines[tenant][0]
        self.leave(tenant, item)
        self._at_work[tenant] += 1
        return item

    def end(self, tenant: str) -> None:
        """Note that a turn of the tenant's has ended; it comes behind all that wait now."""
        self._at_work[tenant] -= 1
        if not self._at_work[tenant]:
            del self._at_work[tenant]
        if line := self._lines.pop(tenant, None):
            self._lines[tenant] = line
