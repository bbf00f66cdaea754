"""The waiting sequences: a line per tenant, and the counters that decide whose line moves next.

Background sequences have lines and counters of their own, so neither kind's service counts against the other's. Owns
order and membership. The scheduler finds out whether the sequence at the head can start.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, ValuesView

from headmix_server.core.types import AdapterRef
from headmix_server.engine.scheduling.virtual_counters import VirtualCounters
from headmix_server.engine.sequence import Sequence, account_of


class WaitQueue(Mapping[int, Sequence]):
    """Waiting sequences by id. First come, first served within an account; between accounts, see `VirtualCounters`.

    `background` are the counters of background sequences.
    """

    def __init__(self, counters: VirtualCounters, background: VirtualCounters) -> None:
        self._counters = {False: counters, True: background}
        self._all: dict[int, Sequence] = {}
        self._lines: dict[bool, dict[str, OrderedDict[int, Sequence]]] = {False: {}, True: {}}
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
        """Append a new sequence to its account's line."""
        self._line_of(sequence)[sequence.sequence_id] = sequence
        self._add(sequence)

    def rejoin(self, sequence: Sequence) -> None:
        """Put a sequence that had started before at the head of its account's line."""
        line = self._line_of(sequence)
        line[sequence.sequence_id] = sequence
        line.move_to_end(sequence.sequence_id, last=False)
        self._add(sequence)

    def _line_of(self, sequence: Sequence) -> OrderedDict[int, Sequence]:
        lines, account = self._lines[sequence.background], sequence.account
        if account not in lines:
            self._counters[sequence.background].arrive(account, lines.keys())
            lines[account] = OrderedDict()
        return lines[account]

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
        lines, account = self._lines[sequence.background], sequence.account
        del lines[account][sequence_id]
        if not lines[account]:
            del lines[account]
            self._counters[sequence.background].leave(account)
        self._with_several.pop(sequence_id, None)
        for ref in sequence.adapters:
            asked = sequence.tenant, ref
            self._asked[asked] -= 1
            if not self._asked[asked]:
                del self._asked[asked]
        return sequence

    # --- what waits ----------------------------------------------------------------------------------------------

    def lines(self, *, background: bool = False) -> Mapping[str, OrderedDict[int, Sequence]]:
        """Return the line of each account that waits, of background sequences or of the others."""
        return self._lines[background]

    def line(self, account: str) -> Iterable[Sequence]:
        """Return an account's waiting sequences, in order."""
        found = self._lines[False].get(account) or self._lines[True].get(account)
        return () if found is None else found.values()

    def asked(self) -> Iterable[tuple[str, AdapterRef]]:
        """Return each adapter that a tenant waits for once, in the order of the first request."""
        return self._asked.keys()

    def wanted(self) -> dict[str, int]:
        """Return the adapters that sequences wait for, each with its lowest position in any line, 0 at the head.

        Background sequences come after all others.
        """
        places: dict[str, int] = {}
        for background, lines in self._lines.items():
            for line in lines.values():
                for place, sequence in enumerate(line.values(), len(self._all) if background else 0):
                    for ref in sequence.adapters:
                        places[ref.digest] = min(place, places.get(ref.digest, place))
        return places

    def first_with_several(self, arrived_before: float) -> Sequence | None:
        """Return the sequence with several adapters whose turn comes first, of those that wait only for adapters.

        A background sequence has its turn only while no other kind waits.
        """
        background = not self._lines[False]
        counters = self._counters[background]
        waiting = [
            sequence
            for sequence in self._with_several.values()
            if sequence.background == background and sequence.arrived < arrived_before and not sequence.awaits_grammar
        ]
        return min(waiting, key=lambda s: (counters.counter(s.account), s.sequence_id), default=None)

    def displaceable(self, tenant: str, *, background: bool = False) -> Sequence | None:
        """Return the sequence to displace from a full queue for a new request of `tenant`, or None.

        It is the newest of the tenant with the most waiting requests for its weight, if that tenant still has more than
        `tenant` would have; a sequence that has started before is never displaced. Background sequences are displaced
        before all others, and never displace others.
        """
        if not background and (newest := self._newest(background=True)):
            return max(newest, key=lambda sequence: sequence.sequence_id)
        newest = self._newest(background=background)
        levels = {s.tenant: self._level(s.tenant, 0, background=background) for s in newest}
        longest = max(levels, key=levels.__getitem__, default=tenant)
        if longest == tenant or levels[longest] <= self._level(tenant, 1, background=background):
            return None
        return next(sequence for sequence in newest if sequence.tenant == longest)

    def _newest(self, *, background: bool) -> list[Sequence]:
        """Return the newest sequence of each line that has not started before."""
        newest = [next(reversed(line.values())) for line in self._lines[background].values()]
        return [sequence for sequence in newest if sequence.queue_seconds is None]

    def _level(self, tenant: str, more: int, *, background: bool) -> float:
        line = self._lines[background].get(account_of(tenant, background=background), ())
        return (len(line) + more) / self._counters[False].weight_of(tenant)

    def check_integrity(self) -> None:
        """Check that the lines hold exactly the waiting sequences, and that no line is empty.

        Raises:
            RuntimeError: the accounting is broken.
        """
        waiting = {(s.background, s.account, number, id(s)) for number, s in self._all.items()}
        lined = {
            (background, account, number, id(s))
            for background, lines in self._lines.items()
            for account, line in lines.items()
            for number, s in line.items()
        }
        if waiting != lined:
            raise RuntimeError("the tenants' lines do not hold what waits")
        if any(number != s.sequence_id for number, s in self._all.items()):
            raise RuntimeError("a sequence waits under another's number")
        if not all(line for lines in self._lines.values() for line in lines.values()):
            raise RuntimeError("a tenant without a waiting sequence has a line")
        if self._with_several != {number: s for number, s in self._all.items() if s.beside}:
            raise RuntimeError("the waiting sequences with several adapters are not those known as such")
        asked = Counter((s.tenant, ref) for s in self._all.values() for ref in s.adapters)
        if dict(self._asked) != dict(asked):  # as dictionaries: adapters with a count of 0 must be gone
            raise RuntimeError("the adapters asked for are not those of the waiting sequences")
        for background, counters in self._counters.items():
            counters.check_integrity(self._lines[background].keys())
