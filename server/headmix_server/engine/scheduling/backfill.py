"""Who may start before a request whose turn it is but that the cache cannot hold yet.

Owns the two bounds on that, in time and in service; whether a request fits is the scheduler's to find out.
"""

from collections import defaultdict
from collections.abc import Collection

from headmix_server.engine.scheduling.sampling_cost import input_extra, output_extra
from headmix_server.engine.scheduling.virtual_counters import INPUT_COST, OUTPUT_COST, VirtualCounters
from headmix_server.engine.sequence import Sequence

FIT_PATIENCE_SECONDS = 0.5
"""How long others may start before a sequence that the cache cannot hold yet, counted from when it was its turn."""


class Backfill:
    """One step's rule.

    Others use what it leaves, so no memory stands empty for it, within two bounds. In time: from `FIT_PATIENCE_SECONDS`
    on nobody starts before it, and it fits as soon as enough of those that run have ended. In service: a request that
    starts must stay within `slack` of its tenant's counter even if all of its tenant's runs to the full length, so
    tenants that wait never differ by more than they would if nobody overtook.
    """

    def __init__(self, counters: VirtualCounters, running: Collection[Sequence], slack: float, now: float) -> None:
        self._counters = counters
        self._running = running
        self._slack = slack
        self._now = now
        self._first: Sequence | None = None
        self._closed = False
        self._owed: dict[str, float] | None = None

    def block(self, sequence: Sequence) -> None:
        """Note a sequence that does not fit."""
        if sequence.blocked_since is None:
            sequence.blocked_since = self._now
        self._closed |= self._now - sequence.blocked_since >= FIT_PATIENCE_SECONDS
        self._first = self._first or sequence

    def allows(self, sequence: Sequence) -> bool:
        """Return whether a sequence may start; noted as one that will, if it fits."""
        if self._closed:
            return False
        if self._first is None:
            return True
        if self._owed is None:
            self._owed = defaultdict(float)
            for other in self._running:
                self._owed[other.tenant] += _still_to_pay(other)
        tenant = sequence.tenant
        cost = self._owed[tenant] + _still_to_pay(sequence)
        ahead = self._counters.counter(tenant) + cost / self._counters.weight_of(tenant)
        if ahead > self._counters.counter(self._first.tenant) + self._slack:
            return False
        self._owed[tenant] = cost
        return True


def _still_to_pay(sequence: Sequence) -> float:
    """Return the most a sequence can still add to its tenant's counter at weight 1."""
    inputs, outputs = sequence.prompt_length - sequence.num_charged, sequence.max_outputs - sequence.num_outputs
    longest = sequence.prompt_length + sequence.max_outputs
    input_cost = INPUT_COST + input_extra(sequence.params)
    return input_cost * inputs + (OUTPUT_COST + output_extra(sequence.params, longest)) * outputs
