"""Recently active tenants (seen in the last 60 s).

Owns nothing but names and times. What an absent tenant has left lying (idle adapters) is anybody's to use.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection

PRESENCE_SECONDS = 60.0
"""How long a tenant counts as present after it was last heard of."""


class RecentTenants:
    """Remembers tenants for as long as they count as present, so what it holds is bounded by who came of late."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heard: OrderedDict[str, float] = OrderedDict()  # the longest silent first

    def mark_seen(self, tenant: str) -> None:
        """Note that something was asked or computed for a tenant just now."""
        self._heard[tenant] = self._clock()
        self._heard.move_to_end(tenant)

    def tenants(self) -> Collection[str]:
        """Return the tenants that are present."""
        horizon = self._clock() - PRESENCE_SECONDS
        while self._heard and next(iter(self._heard.values())) < horizon:
            self._heard.popitem(last=False)
        return self._heard.keys()

    def check_integrity(self) -> None:
        """Check that the longest silent stand first: only those are looked at.

        Raises:
            RuntimeError: they do not.
        """
        times = list(self._heard.values())
        if times != sorted(times):
            raise RuntimeError("tenants are not in the order in which they were last heard of")
