"""Accounts of aborted requests: what was computed for each until it stopped.

An aborted request is answered nothing more, but who asked for it pays for what was computed. Owns when that is known:
at once, or when the step that computes for it has landed.
"""

from contextlib import suppress

from headmix_server.core.grammar import GrammarError
from headmix_server.core.messages import Aborted
from headmix_server.core.runner import BatchRow, RowResult
from headmix_server.core.types import TokenCounts
from headmix_server.engine.sequence import Sequence


class Accounts:
    """The accounts that are ready, and those that wait for the step in flight."""

    def __init__(self, eos_ids: frozenset[int] = frozenset()) -> None:
        self._eos_ids = eos_ids
        self._ready: list[Aborted] = []
        self._in_flight: dict[int, Sequence] = {}
        self._ended: dict[str, TokenCounts] = {}

    def __len__(self) -> int:
        return len(self._ready)

    def ended(self, sequence: Sequence) -> None:
        """Remember a request that has ended until its last output is `said`: an abort may still take that back."""
        self._ended[sequence.request_id] = sequence.counts()

    def said(self) -> None:
        """Forget what has ended: its outputs are on their way."""
        self._ended.clear()

    def abort(self, request_id: str, sequence: Sequence | None, *, in_flight: bool) -> None:
        """Take in an aborted request; `sequence` is None if it is not open."""
        if sequence is not None and in_flight:
            self._in_flight[sequence.sequence_id] = sequence
        else:
            counts = self._ended.get(request_id, TokenCounts()) if sequence is None else sequence.counts()
            self._ready.append(Aborted(request_id=request_id, counts=counts))

    def commit(self, row: BatchRow, result: RowResult) -> Sequence | None:
        """Count what a step that has landed computed for a request aborted meanwhile; returns it if it is one."""
        sequence = self._in_flight.get(row.sequence_id)
        if sequence is not None:
            sequence.read_up_to(row.end)
            with suppress(GrammarError):  # nobody is answered any more
                sequence.gain(result.tokens, self._eos_ids)
        return sequence

    def land(self) -> None:
        """Close the accounts that waited for the step in flight."""
        for sequence in self._in_flight.values():
            self._ready.append(Aborted(request_id=sequence.request_id, counts=sequence.counts()))
        self._in_flight.clear()

    def take(self) -> list[Aborted]:
        """Return the accounts that became ready since the last call."""
        ready, self._ready = self._ready, []
        return ready
