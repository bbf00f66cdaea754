"""How many requests each tenant has open at the engine, and whether it may open another.

Owns the counts; the requests themselves are the engine client's. The limit is shared like the engine's own queue, so a
tenant that floods it is the first to be refused, and the engine still decides which requests wait.
"""

from collections import Counter


class OpenLimit:
    """At most `limit` requests; beyond that, a tenant below its share may still open some."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tenants: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def has_room(self, tenant: str) -> bool:
        """Return whether the tenant may open another request."""
        if len(self._tenants) < self._limit:
            return True
        return self._counts[tenant] < self._limit // len({*self._counts, tenant})

    def enter(self, request_id: str, tenant: str) -> None:
        """Count a request."""
        self._tenants[request_id] = tenant
        self._counts[tenant] += 1

    def leave(self, request_id: str) -> None:
        """Stop counting a request."""
        tenant = self._tenants.pop(request_id)
        self._counts[tenant] -= 1
        if not self._counts[tenant]:
            del self._counts[tenant]

    def clear(self) -> None:
        """Reset all counts."""
        self._tenants.clear()
        self._counts.clear()
