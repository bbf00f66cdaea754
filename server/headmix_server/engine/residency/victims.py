"""Which adapters leave a tier for a tenant's adapter: as many as necessary, each as `tenant_shares` allows.

A tenant takes from those that hold more for their weight than it will itself; otherwise it gives up an adapter that it
alone uses, or, if it has none, one that it shares with others.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from fractions import Fraction

from headmix_server.engine.residency.eviction import choose_victim
from headmix_server.engine.residency.tenant_shares import Cost, TenantShares, View


def choose_victims(
    shares: TenantShares,
    candidates: Iterable[str],
    tenant: str,
    cost: Cost,
    enough: Callable[[list[str]], bool],
    *,
    view: View,
    queued: Mapping[str, int],
    kept: Collection[str] = (),
) -> tuple[str, ...] | None:
    """Return which candidates leave for a tenant's adapter of this cost, in order, until there is `enough` room.

    None if there cannot be enough, or the tenant may not have it. `candidates` are ordered from least to most recently
    used; for `queued`, see `eviction.choose_victim`. Those `kept` do not leave now, and the tenant need not give them
    up. Nothing is changed.
    """
    may_leave = [digest for digest in candidates if digest not in shares.pinned and digest not in kept]
    choice = _Choice(shares, may_leave, tenant, cost, view, kept)
    while not enough(choice.chosen):
        group = choice.next_group()
        if not group:
            return None
        choice.take(choose_victim(group, queued))
    return tuple(choice.chosen)


class _Choice:
    """The adapters chosen so far, and what the tenants would hold without them."""

    def __init__(
        self,
        shares: TenantShares,
        candidates: list[str],
        tenant: str,
        cost: Cost,
        view: View,
        kept: Collection[str],
    ) -> None:
        self.chosen: list[str] = []
        self._shares = shares
        self._left = candidates
        self._tenant = tenant
        self._cost = cost
        self._view = view
        self._held = shares.holdings()
        self._spare = set(shares.spare(tenant)).difference(kept)  # the tenant's, whether or not they can leave now
        self._own = {digest for digest in self._spare if shares.is_alone(tenant, digest, view)}

    def take(self, digest: str) -> None:
        """Choose an adapter to leave."""
        users = self._shares.users(digest)
        for user in users:
            self._held[user] -= Fraction(self._shares.cost(digest), len(users))
        self._left.remove(digest)
        self._spare.discard(digest)
        self._own.discard(digest)
        self.chosen.append(digest)

    def next_group(self) -> list[str]:
        """Return the adapters of which any may leave next; empty if none may leave for the tenant."""
        levels = {digest: self._shares.level(digest, self._view, self._held) for digest in self._left}
        highest = max(levels.values(), default=-1.0)
        held = self._held.get(self._tenant, Fraction(0)) + self._cost
        if highest >= float(held) / self._view.weight(self._tenant) or not self._spare:
            return [digest for digest in self._left if levels[digest] == highest]
        return [digest for digest in self._left if digest in (self._own or self._spare)]
