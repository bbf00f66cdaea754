"""Whose adapters a tier holds, and who has to give one up: max-min fair between tenants, by weight.

Every adapter in a tier is charged to the tenants that use it, in equal parts. Room is taken from the tenant that holds
most for its weight, and never so that the taker would end with more than whom it took from, unless it has nothing to
give up itself; what absent tenants hold is anybody's. An adapter that several tenants use leaves only where each of
them holds so much. So a tenant that is alone uses the whole tier, one that cycles through hundreds of adapters evicts,
next to others, only its own, and no request waits for good. A pin is charged, whole, to the tenant that made it,
regardless of who else uses the adapter. Knows names and numbers; the tiers know what may leave at all, and `victims`
which of it does.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass, field
from fractions import Fraction
from math import fsum, inf

from headmix_server.engine.residency.eviction import choose_victim

Cost = Fraction | int
"""What an adapter takes of a tier, in places: 1, or more where its bytes are more than one place's part of the tier."""


@dataclass(frozen=True, slots=True)
class View:
    """Who was present, and with which weight, when this was found out: one step is decided by the same tenants."""

    present: Collection[str]
    weight_of: Callable[[str], float]
    weights: dict[str, float] = field(default_factory=dict)

    def weight(self, tenant: str) -> float:
        """Return a tenant's weight as it was when first asked for."""
        if tenant not in self.weights:
            self.weights[tenant] = self.weight_of(tenant)
        return self.weights[tenant]


@dataclass(frozen=True, slots=True)
class _Sharers:
    """Who shares a tier: of the tenants in view the holders, and the sum of their weights.

    `have_part` keeps what follows from that and was asked for: whether a tenant holds its part of so many places.
    """

    view: View
    holders: Set[str]
    total: float
    have_part: dict[tuple[str, int], bool] = field(default_factory=dict)


class TenantShares:
    """The accounts of one tier. `weight_of` returns a tenant's weight, `present` the active tenants."""

    def __init__(self, weight_of: Callable[[str], float], present: Callable[[], Collection[str]]) -> None:
        self._weight_of = weight_of
        self._present = present
        self._costs: dict[str, Cost] = {}
        self._users: dict[str, tuple[str, ...]] = {}
        self._held: dict[str, Fraction] = {}
        self._pins: dict[str, set[str]] = {}  # digest: the tenants that pinned it
        self._sharers: _Sharers | None = None  # found out when asked for; `check_integrity` finds it out anew

    def __len__(self) -> int:
        return len(self._users)

    def charge(self, digest: str, tenant: str, cost: Cost = 1) -> bool:
        """Charge an adapter to a tenant too, and no more to those that are absent; return whether anything changed.

        `cost` is that of an adapter that was not here.
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
        """Note that an adapter has left; one that is not here is no error."""
        self._pins.pop(digest, None)
        users = self._users.pop(digest, ())
        self._pay(digest, users, -1)
        self._costs.pop(digest, None)

    def users(self, digest: str) -> tuple[str, ...]:
        """Return the tenants that an adapter which is here is charged to, nobody for one that is not."""
        return self._users.get(digest, ())

    def cost(self, digest: str) -> Cost:
        """Return what an adapter costs that is here."""
        return self._costs[digest]

    def held(self, tenant: str) -> Fraction:
        """Return what is charged to a tenant, in places."""
        return self._held.get(tenant, Fraction(0))

    def holdings(self) -> dict[str, Fraction]:
        """Return what is charged to each tenant, as a copy."""
        return dict(self._held)

    def spare(self, tenant: str) -> list[str]:
        """Return the adapters that are charged to a tenant, among others perhaps, and not pinned."""
        return [digest for digest, users in self._users.items() if tenant in users and digest not in self._pins]

    def part_of(self, tenant: str, places: int) -> int:
        """Return how many of `places` are a tenant's next to the others present that hold something; at least one."""
        sharers = self._current_sharers()
        total, weight = sharers.total, sharers.view.weight(tenant)
        return max(1, int(places * weight / (total if tenant in sharers.holders else total + weight)))

    def has_part(self, tenant: str, places: int) -> bool:
        """Return whether a tenant holds as much as its part of `places`; kept until anything changes."""
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
        """Drop what was computed before: tenants may have come or gone, or weights changed."""
        self._sharers = None

    def view(self) -> View:
        """Return who is present now."""
        return View(frozenset(self._present()), self._weight_of)

    # --- who leaves ----------------------------------------------------------------------------------------------

    def choose_surplus(self, candidates: Collection[str], queued: Mapping[str, int]) -> str:
        """Return which candidate, all charged, is one too many: one of the tenant that holds most for its weight."""
        view = self.view()
        levels = {digest: self.level(digest, view, self._held) for digest in candidates}
        highest = max(levels.values(), default=inf)
        return choose_victim([digest for digest, level in levels.items() if level == highest], queued)

    def level(self, digest: str, view: View, held: Mapping[str, Fraction]) -> float:
        """Return what the one of an adapter's users holds that holds least for its weight; absent ones do not count."""
        users = [user for user in self._users[digest] if user in view.present]
        return min((float(held[user]) / view.weight(user) for user in users), default=inf)

    def is_alone(self, tenant: str, digest: str, view: View) -> bool:
        """Return whether the tenant is the only one present of those that an adapter is charged to."""
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
        """Return what the adapters cost that a tenant has pinned, each whole; None: that anybody has."""
        return sum(self._costs[digest] for digest, pinners in self._pins.items() if tenant is None or tenant in pinners)

    def pin(self, digest: str, tenant: str) -> None:
        """Let an adapter that is here leave no more; it is charged to the tenant too."""
        self._pins.setdefault(digest, set()).add(tenant)
        self.charge(digest, tenant)

    def unpin(self, digest: str, tenant: str | None = None) -> None:
        """End a tenant's pin, None: everybody's; one that is not there is no error."""
        pinners = self._pins.get(digest, set())
        pinners.difference_update(set(pinners) if tenant is None else {tenant})
        if not pinners:
            self._pins.pop(digest, None)

    # --- checks --------------------------------------------------------------------------------------------------

    def check_integrity(self, digests: Collection[str]) -> None:
        """Check that exactly these adapters are charged, each whole, and that what was found out is still true.

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
