"""Whose turn it is: of the tenants that wait, each is admitted once before any is admitted again.

Owns the order, but not the waiting: callers supply the futures or events, and a lock if there are threads.
"""

from collections import Counter, deque
from typing import Generic, TypeVar

T = TypeVar("T")

SERVER = ""
"""Stands for the server's own work, which is admitted before that of any tenant."""


class TurnOrder(Generic[T]):
    """Admits at most `at_once` at a time, at most `most_each` per tenant, and each tenant's in their order.

    Tenants with fewer active turns come first; among equals, the one that was admitted least recently.
    """

    def __init__(self, at_once: int = 1, most_each: int | None = None) -> None:
        self._at_once = at_once
        self._most_each = at_once if most_each is None else most_each
        self._at_work: Counter[str] = Counter()
        self._lines: dict[str, deque[T]] = {}
        """By tenant, in the order of their next turns; no tenant has an empty queue."""

    def __len__(self) -> int:
        """The number of waiting items."""
        return sum(map(len, self._lines.values()))

    def waiting(self, tenant: str) -> int:
        """Return how many of the tenant's items are waiting."""
        return len(self._lines.get(tenant, ()))

    def join(self, tenant: str, item: T) -> None:
        """Start waiting for a turn."""
        self._lines.setdefault(tenant, deque()).append(item)

    def leave(self, tenant: str, item: T) -> None:
        """Stop waiting.

        Raises:
            ValueError: the item is not waiting.
        """
        line = self._lines.get(tenant)
        if line is None:
            raise ValueError(f"{tenant!r} does not wait")
        line.remove(item)
        if not line:
            del self._lines[tenant]

    def take(self) -> T | None:
        """Return the item that is admitted now, or None. Its turn lasts until `end`."""
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
        """End a turn of the tenant; its next turn comes after all that are waiting now."""
        self._at_work[tenant] -= 1
        if not self._at_work[tenant]:
            del self._at_work[tenant]
        if line := self._lines.pop(tenant, None):
            self._lines[tenant] = line
