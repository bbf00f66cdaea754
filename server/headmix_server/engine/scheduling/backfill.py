"""Which requests may start before a request whose turn it is but that the cache cannot hold yet.

Owns the two limits on that, in time and in service; the scheduler finds out whether a request fits.
"""

from collections import defaultdict
from collections.abc import Collection

from headmix_server.engine.scheduling.sampling_cost import input_extra, output_extra
from headmix_server.engine.scheduling.virtual_counters import INPUT_COST, OUTPUT_COST, VirtualCounters
from headmix_server.engine.sequence import Sequence

FIT_PATIENCE_SECONDS = 0.5
"""How long others may start before a sequence that the cache cannot hold yet, counted from when its turn came."""


class Backfill:
    """The rule for one step.

    Others may use what the blocked sequence leaves, so no memory stays empty for it, within two limits. In time: after
    `FIT_PATIENCE_SECONDS`, none starts before it, and it fits as soon as enough of the running ones have ended. In
    service: a request that starts must stay within `slack` of the blocked tenant's counter even if all requests of its
    own tenant run to full length, so waiting tenants never differ by more than they would if nobody overtook.
    """

    def __init__(self, counters: VirtualCounters, running: Collection[Sequence], slack: float, now: float) -> None:
        self._counters = counters
        self._running = running
        self._slack = slack
        self._now = now
        self._first: Sequence | None = None
        self._closed = False
        self._owed: dict[str, float] | None = None

    @property
    def is_blocked(self) -> bool:
        """Whether a sequence that does not fit was recorded."""
        return self._first is not None

    def block(self, sequence: Sequence) -> None:
        """Record a sequence that does not fit."""
        if sequence.blocked_since is None:
            sequence.blocked_since = self._now
        self._closed |= self._now - sequence.blocked_since >= FIT_PATIENCE_SECONDS
        self._first = self._first or sequence

    def allows(self, sequence: Sequence) -> bool:
        """Return whether a sequence may start, if it fits; it is then counted as started."""
        if self._closed:
            return False
        if self._first is None:
            return True
        if self._owed is None:
            self._owed = defaultdict(float)
            for other in self._running:
                self._owed[other.account] += _still_to_pay(other)
        account = sequence.account
        cost = self._owed[account] + _still_to_pay(sequence)
        ahead = self._counters.counter(account) + cost / self._counters.weight_of(account)
        if ahead > self._counters.counter(self._first.account) + self._slack:
            return False
        self._owed[account] = cost
        return True


def _still_to_pay(sequence: Sequence) -> float:
    """Return the most that a sequence can still add to its tenant's counter at weight 1."""
    inputs, outputs = sequence.prompt_length - sequence.num_charged, sequence.max_outputs - sequence.num_outputs
    longest = sequence.prompt_length + sequence.max_outputs
    input_cost = INPUT_COST + input_extra(sequence.params)
    return input_cost * inputs + (OUTPUT_COST + output_extra(sequence.params, longest)) * outputs
