"""Whose adapters a tier holds, and who has to give one up: max-min fair between tenants, by weight.

Every adapter in a tier is charged to one tenant. Room is taken from the tenant that holds most for its weight, and
never so that the taker would end with more than whom it took from, unless it has nothing to give up itself; what absent
tenants hold is anybody's. So whoever is alone uses the whole tier, one that cycles through hundreds of adapters evicts,
beside others, only its own, and no request waits for good.
Knows names and numbers; the tiers know what may leave at all.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass
from math import inf

from headmix_server.engine.eviction import choose_victim


@dataclass(frozen=True, slots=True)
class Room:
    """Of the adapters that could leave: their payers, and what the one with most of these holds for its weight.

    `weights` are those of the payers that were present when this was found out.
    """

    highest: float
    payers: Collection[str]
    weights: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Sharers:
    """Who shares a tier, as it was found out: the tenants then present, and of these the holders with their weights."""

    present: Collection[str]
    holders: Mapping[str, float]
    total: float


class Shares:
    """The accounts of one tier. `weight_of` tells a tenant's weight, `present` which tenants are about."""

    def __init__(self, weight_of: Callable[[str], float], present: Callable[[], Collection[str]]) -> None:
        self._weight_of = weight_of
        self._present = present
        self._payers: dict[str, str] = {}
        self._held: Counter[str] = Counter()
        self._pinned: set[str] = set()
        self._sharers: _Sharers | None = None  # None: to be found out anew

    def __len__(self) -> int:
        return len(self._payers)

    def charge(self, digest: str, tenant: str) -> None:
        """Charge an adapter to a tenant; one that is charged stays so while its payer is present.

        Else a stranger's use of a shared adapter would make it the stranger's, and the first to go with its others.
        """
        payer = self._payers.get(digest)
        if payer == tenant or (payer is not None and payer in self._present()):
            return
        self.drop(digest)
        self._payers[digest] = tenant
        self._held[tenant] += 1
        self._sharers = None

    def drop(self, digest: str) -> None:
        """Note that an adapter has left; one that is not here is no error."""
        payer = self._payers.pop(digest, None)
        self._pinned.discard(digest)
        if payer is not None:
            self._held[payer] -= 1
            self._sharers = None
            if not self._held[payer]:
                del self._held[payer]

    def payer(self, digest: str) -> str:
        """Return the tenant that an adapter which is here is charged to."""
        return self._payers[digest]

    def held(self, tenant: str) -> int:
        """Return how many adapters are charged to a tenant."""
        return self._held[tenant]

    def part_of(self, tenant: str, places: int) -> int:
        """Return how many of `places` are a tenant's beside the others present that hold something; at least one."""
        if self._sharers is None:
            present = frozenset(self._present())
            holders = {holder: self._weight_of(holder) for holder in self._held.keys() & present}
            self._sharers = _Sharers(present, holders, sum(holders.values()))
        total, weight = self._sharers.total, self._weight_of(tenant)
        return max(1, int(places * weight / (total if tenant in self._sharers.holders else total + weight)))

    def look_again(self) -> None:
        """Take note that tenants may have come or gone, or weights changed, since anything was last asked."""
        self._sharers = None

    def room_in(self, candidates: Collection[str]) -> Room:
        """Say what `has_room` needs to know of the adapters that could leave."""
        payers, present = self._payers_of(candidates), self._present()
        weights = {payer: self._weight_of(payer) for payer in payers if payer in present}
        return Room(self._highest(payers, weights), payers, weights)

    def _payers_of(self, candidates: Collection[str]) -> set[str]:
        return {self._payers[digest] for digest in candidates if digest not in self._pinned}

    def _highest(self, payers: Collection[str], weights: Mapping[str, float]) -> float:
        """Return the most that one of the payers holds for its weight; the absent ones have none."""
        levels = (self._held[payer] / weights[payer] if payer in weights else inf for payer in payers)
        return max(levels, default=-1.0)

    def has_room(self, room: Room, tenant: str) -> bool:
        """Tell whether one of those adapters may leave for one of the tenant's."""
        return tenant in room.payers or room.highest >= self._level_with_one_more(tenant)

    def choose_victim(self, candidates: Collection[str], wanted: Mapping[str, int], tenant: str) -> str:
        """Return which candidate leaves for one of the tenant's; `has_room` was true of them.

        `candidates` come least recently used first; for `wanted` see `eviction.choose_victim`.
        """
        evictable = [digest for digest in candidates if digest not in self._pinned]
        if self.room_in(evictable).highest < self._level_with_one_more(tenant):
            return choose_victim([digest for digest in evictable if self._payers[digest] == tenant], wanted)
        return self.choose_surplus(evictable, wanted)

    def choose_surplus(self, candidates: Collection[str], wanted: Mapping[str, int]) -> str:
        """Return which candidate, all charged, is one too many: one of the tenant that holds most for its weight."""
        highest, present = self.room_in(candidates).highest, self._present()
        levels = ((digest, self._level(self._payers[digest], present)) for digest in candidates)
        return choose_victim([digest for digest, level in levels if level == highest], wanted)

    def may_take(self, tenant: str, digest: str) -> bool:
        """Tell whether a tenant may bring one of its own in for this adapter."""
        payer = self._payers[digest]
        if digest in self._pinned:
            return False
        return payer == tenant or self._level(payer, self._present()) >= self._level_with_one_more(tenant)

    def _level(self, tenant: str, present: Collection[str]) -> float:
        return self._held[tenant] / self._weight_of(tenant) if tenant in present else inf

    def _level_with_one_more(self, tenant: str) -> float:
        """What a tenant would hold for its weight; 0 where it holds none that it could give up itself."""
        if self._held[tenant] == self.num_pinned(tenant):
            return 0.0
        return (self._held[tenant] + 1) / self._weight_of(tenant)

    # --- pins ----------------------------------------------------------------------------------------------------

    @property
    def pinned(self) -> Set[str]:
        """The adapters that may not leave."""
        return self._pinned

    def num_pinned(self, tenant: str) -> int:
        """Return how many of the pinned ones are charged to a tenant."""
        return sum(self._payers[digest] == tenant for digest in self._pinned)

    def pin(self, digest: str) -> None:
        """Let an adapter that is here leave no more."""
        self._pinned.add(digest)

    def unpin(self, digest: str) -> None:
        """Let it leave again; one that is not pinned is no error."""
        self._pinned.discard(digest)

    def check_integrity(self, digests: Collection[str]) -> None:
        """Check that exactly these adapters are charged, each once, and that what was found out is still true.

        Raises:
            RuntimeError: the accounting is broken.
        """
        # As dictionaries: two counters are equal where one has a tenant with 0 and the other has it not.
        if self._payers.keys() != set(digests) or dict(self._held) != dict(Counter(self._payers.values())):
            raise RuntimeError("adapters are not charged to exactly one tenant each")
        if not self._pinned <= self._payers.keys():
            raise RuntimeError("an adapter is pinned that is not here")
        sharers = self._sharers
        if sharers is not None and (
            sharers.holders.keys() != self._held.keys() & set(sharers.present)
            or sharers.total != sum(sharers.holders.values())
        ):
            raise RuntimeError("the tenants that share a tier are not those that were found out")

    def check_room(self, room: Room, candidates: Collection[str]) -> None:
        """Check that `room`, found out earlier, is what these candidates make; tenants may have come or gone since.

        Raises:
            RuntimeError: it was kept for too long.
        """
        payers = self._payers_of(candidates)
        if room.payers != payers or room.highest != self._highest(payers, room.weights):
            raise RuntimeError("the adapters that could leave are not those that were found out")
