"""How many requests of each tenant are open in this process."""

from collections import Counter


class OpenRequests:
    """Counts by tenant; used on one event loop. A tenant without open requests takes no memory."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def of(self, tenant: str) -> int:
        """Return how many of the tenant's requests are open."""
        return self._open[tenant]

    def enter(self, tenant: str, limit: int) -> bool:
        """Count one more and return true, unless `limit` are open already; 0 means no limit."""
        if limit and self._open[tenant] >= limit:
            return False
        self._open[tenant] += 1
        return True

    def leave(self, tenant: str) -> None:
        """Count one less; call it once for each successful `enter`."""
        if self._open[tenant] <= 0:
            raise RuntimeError(f"more requests of {tenant!r} left than entered")
        self._open[tenant] -= 1
        if not self._open[tenant]:
            del self._open[tenant]
