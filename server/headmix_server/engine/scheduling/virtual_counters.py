"""Fair shares: a virtual counter of service for every tenant, and who is next by it.

The Virtual Token Counter of Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024, arXiv 2401.00588),
with weights: a tenant's counter rises by what was computed for it, divided by its weight, and the waiting tenant with
the least counter is served next. A tenant that was unavailable is lifted to the least counter of those that wait, so
that being idle saves up nothing. Knows tenants and numbers only; queues and steps are the scheduler's.
"""

from collections.abc import Collection, Iterable, Mapping
from math import inf

INPUT_COST = 1.0
OUTPUT_COST = 2.0
"""What a token costs: one of the prompt, one generated (the paper's weights, section 5.1)."""


class VirtualCounters:
    """The counters of all tenants. `weights` holds the tenants whose share is not 1; a share of 2 is twice as much."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = dict(weights or {})
        self._counters: dict[str, float] = {}
        self._last_left: str | None = None
        self._last_level = 0.0

    def set_weight(self, tenant: str, weight: float) -> None:
        """Set a tenant's weight from now on.

        Raises:
            ValueError: it is not positive.
        """
        if not 0 < weight < inf:
            raise ValueError(f"a weight is positive and finite, not {weight}")
        self._weights[tenant] = weight

    def weight_of(self, tenant: str) -> float:
        """Return a tenant's share next to others'."""
        return self._weights.get(tenant, 1.0)

    def counter(self, tenant: str) -> float:
        """Return the service a tenant has had, in weighted tokens; comparable with others' only."""
        return self._counters.get(tenant, 0.0)

    def arrive(self, tenant: str, waiting: Collection[str]) -> None:
        """Note that a tenant with nothing waiting queues a request; `waiting` are the tenants that have one queued.

        Lifts it to the least counter among those, or, where nobody waits, to what the tenant that left the queue last
        has had (algorithm 2, lines 8 to 14).
        """
        if tenant in waiting:
            return
        level = min(map(self.counter, waiting), default=self._last_level)
        self._counters[tenant] = max(self.counter(tenant), level)

    def leave(self, tenant: str) -> None:
        """Note that a tenant's last waiting request left the queue."""
        self._last_left = tenant
        self._last_level = self.counter(tenant)

    def charge(self, tenant: str, *, inputs: int = 0, outputs: int = 0, extra: float = 0.0) -> None:
        """Add what was computed for a tenant, in tokens; `extra` is work that is not tokens, in tokens' worth."""
        cost = INPUT_COST * inputs + OUTPUT_COST * outputs + extra
        self._counters[tenant] = self.counter(tenant) + cost / self.weight_of(tenant)
        if tenant == self._last_left:
            self._last_level = self._counters[tenant]

    def next_of(self, tenants: Iterable[str]) -> str:
        """Return the tenant to serve next: the one with the least counter, the first of equals.

        Raises:
            ValueError: there is none.
        """
        return min(tenants, key=self.counter)

    def forget(self, present: Collection[str], *, known: Collection[str] = ()) -> None:
        """Drop the counters of tenants that are not `present` and have had no more than any one that is.

        They would be lifted on return anyway, so nothing is lost; the rest is kept, or leaving would wipe a debt.
        Weights go with them, except of those `known`: every request brings its tenant's weight along.
        """
        if not present:
            return
        level = min(map(self.counter, present))
        for tenant in [t for t, counter in self._counters.items() if counter <= level and t not in present]:
            del self._counters[tenant]
        for tenant in [t for t in self._weights if not (t in self._counters or t in present or t in known)]:
            del self._weights[tenant]

    def check_integrity(self, waiting: Collection[str]) -> None:
        """Check every counter and weight, those of the tenants with a request in the queue above all.

        Raises:
            RuntimeError: the accounting is broken.
        """
        if not all(0 <= counter < inf for counter in self._counters.values()):
            raise RuntimeError("a tenant's counter is not a number of tokens")
        if not all(0 < weight < inf for weight in self._weights.values()):
            raise RuntimeError("a tenant's weight is not positive")
        if strangers := set(waiting) - self._counters.keys():
            raise RuntimeError(f"tenants wait that have no counter: {sorted(strangers)}")
        last = self._last_left
        if last in self._counters and last not in waiting and self._last_level != self._counters[last]:
            raise RuntimeError("the level of the tenant that left the queue last is not its counter")

    def __len__(self) -> int:
        """Return how many tenants have a counter."""
        return len(self._counters)
