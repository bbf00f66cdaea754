"""Recently active tenants (seen in the last 60 s).

Owns only names and times. Anyone may use what an inactive tenant has left behind (idle adapters).
"""

from collections import OrderedDict
from collections.abc import Callable, Collection

PRESENCE_SECONDS = 60.0
"""How long a tenant counts as present after it was last seen."""


class RecentTenants:
    """Remembers tenants while they count as present, so its size is bounded by how many were recently active."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heard: OrderedDict[str, float] = OrderedDict()  # longest inactive first

    def mark_seen(self, tenant: str) -> None:
        """Record that something was just requested or computed for a tenant."""
        self._heard[tenant] = self._clock()
        self._heard.move_to_end(tenant)

    def tenants(self) -> Collection[str]:
        """Return the tenants that are present."""
        horizon = self._clock() - PRESENCE_SECONDS
        while self._heard and next(iter(self._heard.values())) < horizon:
            self._heard.popitem(last=False)
        return self._heard.keys()

    def check_integrity(self) -> None:
        """Check that tenants are ordered from longest inactive to most recent: only the first ones are inspected.

        Raises:
            RuntimeError: they are not.
        """
        times = list(self._heard.values())
        if times != sorted(times):
            raise RuntimeError("tenants are not in the order in which they were last heard of")
