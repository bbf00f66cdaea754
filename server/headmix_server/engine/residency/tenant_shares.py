"""Which tenants a tier's adapters are charged to, and which tenant has to give one up: weighted max-min fairness.

Every adapter in a tier is charged to the tenants that use it, in equal parts. Room is taken from the tenant that holds
the most for its weight, but never so that the taker would end up with more than the tenant it took from, unless the
taker has nothing of its own to give up; anyone may take what absent tenants hold. An adapter that several tenants use
leaves only when each of them holds that much. So a tenant that is alone uses the whole tier; a tenant that cycles
through hundreds of adapters while others are active evicts only its own; and no request waits forever. A pin is
charged, whole, to the tenant that made it, regardless of who else uses the adapter. This module knows only names and
numbers; the tiers know which adapters may leave at all, and `victims` chooses among them.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass, field
from fractions import Fraction
from math import fsum, inf

from headmix_server.engine.residency.eviction import choose_victim

Cost = Fraction | int
"""The places of a tier that an adapter takes: 1, or more if its bytes exceed one place's part of the tier."""


@dataclass(frozen=True, slots=True)
class View:
    """The present tenants and their weights at one time, so that all decisions of one step use the same tenants."""

    present: Collection[str]
    weight_of: Callable[[str], float]
    weights: dict[str, float] = field(default_factory=dict)

    def weight(self, tenant: str) -> float:
        """Return a tenant's weight as it was when first requested."""
        if tenant not in self.weights:
            self.weights[tenant] = self.weight_of(tenant)
        return self.weights[tenant]


@dataclass(frozen=True, slots=True)
class _Sharers:
    """The tenants that share a tier: the present ones that hold something, and the sum of their weights.

    `have_part` caches, by tenant and number of places, whether the tenant holds its part of that many places.
    """

    view: View
    holders: Set[str]
    total: float
    have_part: dict[tuple[str, int], bool] = field(default_factory=dict)


class TenantShares:
    """The accounts of one tier. `weight_of` returns a tenant's weight, `present` the present tenants."""

    def __init__(self, weight_of: Callable[[str], float], present: Callable[[], Collection[str]]) -> None:
        self._weight_of = weight_of
        self._present = present
        self._costs: dict[str, Cost] = {}
        self._users: dict[str, tuple[str, ...]] = {}
        self._held: dict[str, Fraction] = {}
        self._pins: dict[str, set[str]] = {}  # digest: the tenants that pinned it
        self._sharers: _Sharers | None = None  # computed on demand; `check_integrity` recomputes it

    def __len__(self) -> int:
        return len(self._users)

    def charge(self, digest: str, tenant: str, cost: Cost = 1) -> bool:
        """Charge an adapter to a tenant as well, and to absent ones no longer; return whether anything changed.

        `cost` is the cost of an adapter that was not here before.
        """
        before, present, pinners = self._users.get(digest, ()), self._present(), self._pins.get(digest, ())
        users = tuple(user for user in before if user == tenant or user in present or user in pinners)
        users = users if tenant in users else (*users, tenant)
        if users == before:
            return False
        self._costs.setdefault(digest, cost)
        self._pay(digest, before, -1)
        self._users[digest] = users
        self._pay(digest, users, 1)
        return True

    def _pay(self, digest: str, users: tuple[str, ...], sign: int) -> None:
        for user in users:
            self._held[user] = self._held.get(user, Fraction(0)) + sign * Fraction(self._costs[digest], len(users))
            if not self._held[user]:
                del self._held[user]
        self._sharers = None

    def drop(self, digest: str) -> None:
        """Record that an adapter has left; does nothing if it is not here."""
        self._pins.pop(digest, None)
        users = self._users.pop(digest, ())
        self._pay(digest, users, -1)
        self._costs.pop(digest, None)

    def users(self, digest: str) -> tuple[str, ...]:
        """Return the tenants that an adapter is charged to; empty for an adapter that is not here."""
        return self._users.get(digest, ())

    def cost(self, digest: str) -> Cost:
        """Return the cost of an adapter that is here."""
        return self._costs[digest]

    def held(self, tenant: str) -> Fraction:
        """Return what is charged to a tenant, in places."""
        return self._held.get(tenant, Fraction(0))

    def holdings(self) -> dict[str, Fraction]:
        """Return what is charged to each tenant, as a copy."""
        return dict(self._held)

    def spare(self, tenant: str) -> list[str]:
        """Return the unpinned adapters that are charged to a tenant, possibly among others."""
        return [digest for digest, users in self._users.items() if tenant in users and digest not in self._pins]

    def part_of(self, tenant: str, places: int) -> int:
        """Return a tenant's part of `places`, shared with the other present holders; at least one."""
        sharers = self._current_sharers()
        total, weight = sharers.total, sharers.view.weight(tenant)
        return max(1, int(places * weight / (total if tenant in sharers.holders else total + weight)))

    def has_part(self, tenant: str, places: int) -> bool:
        """Return whether a tenant holds at least its part of `places`; cached until anything changes."""
        known, asked = self._current_sharers().have_part, (tenant, places)
        if asked not in known:
            known[asked] = self.held(tenant) >= self.part_of(tenant, places)
        return known[asked]

    def _current_sharers(self) -> _Sharers:
        if self._sharers is None:
            self._sharers = self._find_sharers(self.view())
        return self._sharers

    def _find_sharers(self, view: View) -> _Sharers:
        holders = self._held.keys() & view.present
        return _Sharers(view, holders, fsum(map(view.weight, holders)))

    def invalidate(self) -> None:
        """Discard cached results: tenants may have come or gone, or weights changed."""
        self._sharers = None

    def view(self) -> View:
        """Return the tenants that are present now."""
        return View(frozenset(self._present()), self._weight_of)

    # --- who leaves ----------------------------------------------------------------------------------------------

    def choose_surplus(self, candidates: Collection[str], queued: Mapping[str, int]) -> str:
        """Return the candidate to drop, all of them charged: one of the tenant that holds the most for its weight."""
        view = self.view()
        levels = {digest: self.level(digest, view, self._held) for digest in candidates}
        highest = max(levels.values(), default=inf)
        return choose_victim([digest for digest, level in levels.items() if level == highest], queued)

    def level(self, digest: str, view: View, held: Mapping[str, Fraction]) -> float:
        """Return the lowest holding relative to weight among an adapter's users; absent users do not count."""
        users = [user for user in self._users[digest] if user in view.present]
        return min((float(held[user]) / view.weight(user) for user in users), default=inf)

    def is_alone(self, tenant: str, digest: str, view: View) -> bool:
        """Return whether the tenant is the only present one that an adapter is charged to."""
        users = self._users[digest]
        return tenant in users and all(user == tenant or user not in view.present for user in users)

    # --- pins ----------------------------------------------------------------------------------------------------

    @property
    def pinned(self) -> Set[str]:
        """The adapters that may not leave."""
        return self._pins.keys()

    def has_pinned(self, tenant: str, digest: str) -> bool:
        """Return whether a tenant has pinned an adapter."""
        return tenant in self._pins.get(digest, ())

    def pinned_cost(self, tenant: str | None = None) -> Cost:
        """Return the total cost of the adapters that a tenant (None: any tenant) has pinned, each counted in full."""
        return sum(self._costs[digest] for digest, pinners in self._pins.items() if tenant is None or tenant in pinners)

    def pin(self, digest: str, tenant: str) -> None:
        """Keep an adapter that is here from leaving; it is charged to the tenant as well."""
        self._pins.setdefault(digest, set()).add(tenant)
        self.charge(digest, tenant)

    def unpin(self, digest: str, tenant: str | None = None) -> None:
        """End a tenant's pin, or (None) all tenants' pins; does nothing if there is none."""
        pinners = self._pins.get(digest, set())
        pinners.difference_update(set(pinners) if tenant is None else {tenant})
        if not pinners:
            self._pins.pop(digest, None)

    # --- checks --------------------------------------------------------------------------------------------------

    def check_integrity(self, digests: Collection[str]) -> None:
        """Check that exactly these adapters are charged, each in full, and that cached results are still correct.

        Raises:
            RuntimeError: the accounting is broken.
        """
        held: Counter[str] = Counter()
        for digest, users in self._users.items():
            for user in users:
                held[user] += Fraction(self._costs[digest], len(users))  # type: ignore[assignment]  # counts by parts
        if self._users.keys() != set(digests) or self._costs.keys() != self._users.keys() or self._held != dict(held):
            raise RuntimeError("adapters are not charged, whole, to the tenants that use them")
        if not all(len(set(users)) == len(users) > 0 for users in self._users.values()):
            raise RuntimeError("an adapter is charged to nobody, or twice to the same tenant")
        if not self._pins.keys() <= self._users.keys() or not all(self._pins.values()):
            raise RuntimeError("an adapter is pinned that is not here, or by nobody")
        if any(not pinners <= set(self._users[digest]) for digest, pinners in self._pins.items()):
            raise RuntimeError("a pinned adapter is not charged to who pinned it")
        if self._sharers is not None:
            self._check_sharers(self._sharers)

    def _check_sharers(self, sharers: _Sharers) -> None:
        anew = self._find_sharers(sharers.view)
        if (anew.holders, anew.total) != (sharers.holders, sharers.total):
            raise RuntimeError("the tenants that share a tier are not those that were found out")
        for (tenant, places), has_part in sharers.have_part.items():
            if has_part != (self.held(tenant) >= self.part_of(tenant, places)):
                raise RuntimeError(f"whether {tenant} holds its part of a tier is not what was found out")
