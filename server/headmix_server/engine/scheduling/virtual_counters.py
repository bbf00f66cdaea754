"""Fair shares: a virtual counter of service per tenant, which decides who is next.

The Virtual Token Counter of Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024, arXiv 2401.00588),
with weights: a tenant's counter increases by what was computed for it, divided by its weight, and the waiting tenant
with the lowest counter is served next. The counter of a tenant that was idle is lifted to the lowest counter of the
waiting tenants, so idle time earns no credit. Knows only tenants and numbers; the scheduler owns queues and steps.
"""

from collections.abc import Collection, Iterable, Mapping, Set
from math import inf

INPUT_COST = 1.0
OUTPUT_COST = 2.0
"""The costs of a prompt token and of a generated token (the paper's weights, section 5.1)."""


class VirtualCounters:
    """The counters of all tenants. `weights` holds the weights other than 1; a weight of 2 means twice the share."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = dict(weights or {})
        self._counters: dict[str, float] = {}
        self._last_left: str | None = None
        self._last_level = 0.0

    def set_weight(self, tenant: str, weight: float) -> None:
        """Set a tenant's weight from now on.

        Raises:
            ValueError: it is not positive and finite.
        """
        if not 0 < weight < inf:
            raise ValueError(f"a weight is positive and finite, not {weight}")
        self._weights[tenant] = weight

    def weight_of(self, tenant: str) -> float:
        """Return a tenant's weight relative to others'."""
        return self._weights.get(tenant, 1.0)

    def counter(self, tenant: str) -> float:
        """Return the service that a tenant has received, in weighted tokens; comparable only between tenants."""
        return self._counters.get(tenant, 0.0)

    def arrive(self, tenant: str, waiting: Collection[str]) -> None:
        """Record that a tenant with an empty line queues a request; `waiting` are the tenants that have some queued.

        Lifts its counter to the lowest of theirs or, if nobody waits, to the counter of the tenant that left the queue
        last (algorithm 2, lines 8 to 14).
        """
        if tenant in waiting:
            return
        level = min(map(self.counter, waiting), default=self._last_level)
        self._counters[tenant] = max(self.counter(tenant), level)

    def leave(self, tenant: str) -> None:
        """Record that a tenant's last waiting request left the queue."""
        self._last_left = tenant
        self._last_level = self.counter(tenant)

    def charge(self, tenant: str, *, inputs: int = 0, outputs: int = 0, extra: float = 0.0) -> None:
        """Charge a tenant for what was computed, in tokens; `extra` is other work, converted to tokens."""
        cost = INPUT_COST * inputs + OUTPUT_COST * outputs + extra
        self._counters[tenant] = self.counter(tenant) + cost / self.weight_of(tenant)
        if tenant == self._last_left:
            self._last_level = self._counters[tenant]

    def next_of(self, tenants: Iterable[str]) -> str:
        """Return the tenant to serve next: the one with the lowest counter, the first in a tie.

        Raises:
            ValueError: there is no tenant.
        """
        return min(tenants, key=self.counter)

    def forget(self, present: Collection[str], *, known: Collection[str] = ()) -> None:
        """Drop the counters of tenants that are not `present` and have received no more service than any present one.

        They would be lifted on return anyway, so nothing is lost; the others are kept, or leaving would erase a debt.
        Weights are dropped with them, except for `known` tenants: every request carries its tenant's weight.
        """
        if not present:
            return
        level = min(map(self.counter, present))
        for tenant in [t for t, counter in self._counters.items() if counter <= level and t not in present]:
            del self._counters[tenant]
        for tenant in [t for t in self._weights if not (t in self._counters or t in present or t in known)]:
            del self._weights[tenant]

    @property
    def accounts(self) -> Set[str]:
        """The tenants that have a counter."""
        return self._counters.keys()

    def check_integrity(self, waiting: Collection[str]) -> None:
        """Check every counter and weight, and that tenants with a request in the queue have a counter.

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
        """Return the number of tenants that have a counter."""
        return len(self._counters)
