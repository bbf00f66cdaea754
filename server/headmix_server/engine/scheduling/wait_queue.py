"""The waiting sequences: a line per tenant, and the counters that decide whose line moves next.

Owns order and membership. The scheduler finds out whether the sequence at the head can start.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, ValuesView

from headmix_server.core.types import AdapterRef
from headmix_server.engine.scheduling.virtual_counters import VirtualCounters
from headmix_server.engine.sequence import Sequence


class WaitQueue(Mapping[int, Sequence]):
    """Waiting sequences by id. First come, first served within a tenant; between tenants, see `VirtualCounters`."""

    def __init__(self, counters: VirtualCounters) -> None:
        self._counters = counters
        self._all: dict[int, Sequence] = {}
        self._lines: dict[str, OrderedDict[int, Sequence]] = {}
        self._asked: Counter[tuple[str, AdapterRef]] = Counter()
        self._with_several: dict[int, Sequence] = {}  # those with several adapters, in no particular order

    def __getitem__(self, sequence_id: int) -> Sequence:
        return self._all[sequence_id]

    def __iter__(self) -> Iterator[int]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def values(self) -> ValuesView[Sequence]:
        """Return the sequences, in no particular order."""
        return self._all.values()

    # --- joining and leaving -------------------------------------------------------------------------------------

    def join(self, sequence: Sequence) -> None:
        """Append a new sequence to its tenant's line."""
        self._line_of(sequence.tenant)[sequence.sequence_id] = sequence
        self._add(sequence)

    def rejoin(self, sequence: Sequence) -> None:
        """Put a sequence that had started before at the head of its tenant's line."""
        line = self._line_of(sequence.tenant)
        line[sequence.sequence_id] = sequence
        line.move_to_end(sequence.sequence_id, last=False)
        self._add(sequence)

    def _line_of(self, tenant: str) -> OrderedDict[int, Sequence]:
        if tenant not in self._lines:
            self._counters.arrive(tenant, self._lines.keys())
            self._lines[tenant] = OrderedDict()
        return self._lines[tenant]

    def _add(self, sequence: Sequence) -> None:
        self._all[sequence.sequence_id] = sequence
        for ref in sequence.adapters:
            self._asked[sequence.tenant, ref] += 1
        if sequence.beside:
            self._with_several[sequence.sequence_id] = sequence

    def remove(self, sequence_id: int) -> Sequence | None:
        """Remove a sequence; returns it, or None if it is not waiting."""
        sequence = self._all.pop(sequence_id, None)
        if sequence is None:
            return None
        line = self._lines[sequence.tenant]
        del line[sequence_id]
        if not line:
            del self._lines[sequence.tenant]
            self._counters.leave(sequence.tenant)
        self._with_several.pop(sequence_id, None)
        for ref in sequence.adapters:
            asked = sequence.tenant, ref
            self._asked[asked] -= 1
            if not self._asked[asked]:
                del self._asked[asked]
        return sequence

    # --- what waits ----------------------------------------------------------------------------------------------

    def lines(self) -> Mapping[str, OrderedDict[int, Sequence]]:
        """Return each waiting tenant's line."""
        return self._lines

    def asked(self) -> Iterable[tuple[str, AdapterRef]]:
        """Return each adapter that a tenant waits for once, in the order of the first request."""
        return self._asked.keys()

    def wanted(self) -> dict[str, int]:
        """Return the adapters that sequences wait for, each with its lowest position in any line, 0 at the head."""
        places: dict[str, int] = {}
        for line in self._lines.values():
            for place, sequence in enumerate(line.values()):
                for ref in sequence.adapters:
                    places[ref.digest] = min(place, places.get(ref.digest, place))
        return places

    def first_with_several(self, arrived_before: float) -> Sequence | None:
        """Return the sequence with several adapters whose turn comes first, of those that wait only for adapters."""
        waiting = [s for s in self._with_several.values() if s.arrived < arrived_before and not s.awaits_grammar]
        return min(waiting, key=lambda s: (self._counters.counter(s.tenant), s.sequence_id), default=None)

    def displaceable(self, tenant: str) -> Sequence | None:
        """Return the sequence to displace from a full queue for a new request of `tenant`, or None.

        It is the newest of the tenant with the most waiting requests for its weight, if that tenant still has more than
        `tenant` would have; a sequence that has started before is never displaced.
        """
        newest = [next(reversed(line.values())) for line in self._lines.values()]
        levels = {s.tenant: self._level(s.tenant, 0) for s in newest if s.queue_seconds is None}
        longest = max(levels, key=levels.__getitem__, default=tenant)
        if longest == tenant or levels[longest] <= self._level(tenant, 1):
            return None
        return next(reversed(self._lines[longest].values()))

    def _level(self, tenant: str, more: int) -> float:
        return (len(self._lines.get(tenant, ())) + more) / self._counters.weight_of(tenant)

    def check_integrity(self) -> None:
        """Check that the lines hold exactly the waiting sequences, and that no line is empty.

        Raises:
            RuntimeError: the accounting is broken.
        """
        waiting = {(s.tenant, number, id(s)) for number, s in self._all.items()}
        if waiting != {(tenant, number, id(s)) for tenant, line in self._lines.items() for number, s in line.items()}:
            raise RuntimeError("the tenants' lines do not hold what waits")
        if any(number != s.sequence_id for number, s in self._all.items()):
            raise RuntimeError("a sequence waits under another's number")
        if not all(self._lines.values()):
            raise RuntimeError("a tenant without a waiting sequence has a line")
        if self._with_several != {number: s for number, s in self._all.items() if s.beside}:
            raise RuntimeError("the waiting sequences with several adapters are not those known as such")
        asked = Counter((s.tenant, ref) for s in self._all.values() for ref in s.adapters)
        if dict(self._asked) != dict(asked):  # as dictionaries: adapters with a count of 0 must be gone
            raise RuntimeError("the adapters asked for are not those of the waiting sequences")
        self._counters.check_integrity(self._lines.keys())
