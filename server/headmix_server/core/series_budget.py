"""Which tenants' adapters have series of their own in the metrics: names come from clients, so there is a limit."""

OTHER = "other"
"""The tenant and the adapter under whose names all further ones are counted."""

Owner = tuple[str, str]
"""A tenant, and the name by which it calls an adapter."""


class SeriesBudget:
    """Which (tenant, adapter) pairs have series of their own: the first `limit` that asked and are not gone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._admitted: set[Owner] = set()

    def admit(self, owner: Owner) -> Owner:
        """Return the labels to use for the pair. The tenant folds too: tenants are as unbounded as adapters."""
        if owner not in self._admitted:
            if len(self._admitted) >= self._limit:
                return (OTHER, OTHER)
            self._admitted.add(owner)
        return owner

    def release(self, tenant: str, adapter: str) -> tuple[Owner, ...]:
        """Give the adapter's places back, under whatever name tenants ask for it; return the pairs that had one."""
        shared = f"{tenant}/{adapter}"
        gone = tuple(owner for owner in self._admitted if owner == (tenant, adapter) or owner[1] == shared)
        self._admitted.difference_update(gone)
        return gone
