"""Which tenants' adapters have their own series in the metrics: names come from clients, so the number is limited, and
one tenant's adapters cannot take all of it.
"""

from collections.abc import Callable

OTHER = "other"
"""The tenant and the adapter under which all further pairs are counted."""

Owner = tuple[str, str]
"""A tenant, and its name for an adapter."""


class SeriesBudget:
    """The (tenant, adapter) pairs that have their own series: at most `limit`, shared fairly among tenants.

    While there is room, every pair gets a place. After that, a tenant with fewer places than another takes the oldest
    place of the tenant with the most, whose series `on_evicted` removes. Tenants with equally many keep them, so places
    only change hands until the tenants that want more have the same number.
    """

    def __init__(self, limit: int, on_evicted: Callable[[Owner], None]) -> None:
        self._limit = limit
        self._on_evicted = on_evicted
        self._places: dict[str, dict[str, None]] = {}
        self._count = 0

    def admit(self, owner: Owner) -> Owner:
        """Return the labels to use for the pair. The tenant folds as well: tenants are as unbounded as adapters."""
        tenant, adapter = owner
        own = self._places.get(tenant, {})
        if adapter in own:
            return owner
        if self._count >= self._limit and not self._make_room(len(own)):
            return (OTHER, OTHER)
        self._places.setdefault(tenant, {})[adapter] = None
        self._count += 1
        return owner

    def release(self, tenant: str, adapter: str) -> tuple[Owner, ...]:
        """Release the adapter's places under all tenants' names for it; return the pairs that had one."""
        shared = f"{tenant}/{adapter}"
        gone = tuple(
            (holder, name)
            for holder, names in self._places.items()
            for name in (shared, adapter)
            if name in names and (name == shared or holder == tenant)
        )
        for owner in gone:
            self._drop(owner)
        return gone

    def _make_room(self, own: int) -> bool:
        """Take a place from the tenant with the most, if it keeps at least as many as a tenant with `own` then has."""
        largest = max(self._places, key=lambda tenant: len(self._places[tenant]), default=None)
        if largest is None or len(self._places[largest]) - 1 < own + 1:
            return False
        evicted = (largest, next(iter(self._places[largest])))
        self._drop(evicted)
        self._on_evicted(evicted)
        return True

    def _drop(self, owner: Owner) -> None:
        tenant, adapter = owner
        names = self._places[tenant]
        del names[adapter]
        self._count -= 1
        if not names:
            del self._places[tenant]
