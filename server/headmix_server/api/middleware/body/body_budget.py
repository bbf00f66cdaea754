"""The memory that all JSON bodies in transit may take together, shared fairly among tenants.

Owns which body is evicted when the budget is full: the largest one of the tenant that holds the most. Knows neither
HTTP nor the content of a body. Used on one event loop.
"""

import asyncio
from collections import Counter
from contextlib import suppress


class ArrivingBody:
    """A body that is being received; `evicted` is true once it was refused to make room."""

    def __init__(self, budget: "BodyBudget", tenant: str) -> None:
        self._budget = budget
        self._waiting: asyncio.Timeout | None = None
        self.tenant = tenant
        self.size = 0
        self.evicted = False

    def grow(self, size: int) -> None:
        """Count bytes that have arrived; this may evict a body, perhaps this one."""
        if not self.evicted:
            self._budget.add(self, size)

    def end(self) -> None:
        """Return the bytes to the budget: they were parsed, or the request is over."""
        self._budget.remove(self)

    def waits(self, timeout: asyncio.Timeout | None) -> None:
        """Store the timeout of the wait for more data, which an eviction ends; None if nothing is waiting."""
        self._waiting = timeout

    def evict(self) -> None:
        """Refuse the rest of the body immediately."""
        self.evicted = True
        self.end()
        if self._waiting is not None:
            with suppress(RuntimeError):  # already expired
                self._waiting.reschedule(0)


class BodyBudget:
    """Holds at most `max_bytes` of bodies at a time."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bodies: set[ArrivingBody] = set()
        self._by_tenant: Counter[str] = Counter()
        self.total = 0

    def open(self, tenant: str) -> ArrivingBody:
        """Start receiving a body for a tenant."""
        return ArrivingBody(self, tenant)

    def add(self, body: ArrivingBody, size: int) -> None:
        """Count bytes of a body, and evict bodies until the budget holds."""
        self._bodies.add(body)
        body.size += size
        self._by_tenant[body.tenant] += size
        self.total += size
        while self.total > self._max_bytes:
            self._largest().evict()

    def remove(self, body: ArrivingBody) -> None:
        """Stop counting a body's bytes; calling it again does nothing."""
        self._bodies.discard(body)
        self.total -= body.size
        self._by_tenant[body.tenant] -= body.size
        if not self._by_tenant[body.tenant]:
            del self._by_tenant[body.tenant]
        body.size = 0

    def _largest(self) -> ArrivingBody:
        tenant = max(self._by_tenant, key=lambda name: self._by_tenant[name])
        return max((body for body in self._bodies if body.tenant == tenant), key=lambda body: body.size)
