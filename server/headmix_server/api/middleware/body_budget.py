"""The memory that all JSON bodies on their way may take together, shared fairly among tenants.

Owns who gives way when it is full: the largest body of the tenant that holds most. Knows neither HTTP nor what a body
says. Used on one event loop.
"""

import asyncio
from collections import Counter
from contextlib import suppress


class ArrivingBody:
    """One body that is being received. `evicted` is true once it had to give way."""

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
        """Give the bytes back: they were parsed, or nobody wants them any more."""
        self._budget.remove(self)

    def waits(self, timeout: asyncio.Timeout | None) -> None:
        """Note the time limit of the wait for more, which an eviction ends; None if there is no wait."""
        self._waiting = timeout

    def evict(self) -> None:
        """Refuse the rest of the body, at once."""
        self.evicted = True
        self.end()
        if self._waiting is not None:
            with suppress(RuntimeError):  # it has expired already
                self._waiting.reschedule(0)


class BodyBudget:
    """At most `max_bytes` of bodies are kept at once."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bodies: set[ArrivingBody] = set()
        self._by_tenant: Counter[str] = Counter()
        self.total = 0

    def open(self, tenant: str) -> ArrivingBody:
        """Begin a body of a tenant."""
        return ArrivingBody(self, tenant)

    def add(self, body: ArrivingBody, size: int) -> None:
        """Count bytes of a body and evict what is too much."""
        self._bodies.add(body)
        body.size += size
        self._by_tenant[body.tenant] += size
        self.total += size
        while self.total > self._max_bytes:
            self._largest().evict()

    def remove(self, body: ArrivingBody) -> None:
        """Count a body's bytes no more; again is harmless."""
        self._bodies.discard(body)
        self.total -= body.size
        self._by_tenant[body.tenant] -= body.size
        if not self._by_tenant[body.tenant]:
            del self._by_tenant[body.tenant]
        body.size = 0

    def _largest(self) -> ArrivingBody:
        tenant = max(self._by_tenant, key=lambda name: self._by_tenant[name])
        return max((body for body in self._bodies if body.tenant == tenant), key=lambda body: body.size)
