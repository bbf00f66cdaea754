"""Accounts of aborted requests: what was computed for each one before it stopped.

An aborted request gets no more output, but its client pays for what was computed. Decides when that is known: at
once, or when the step that computes for the request has finished.
"""

from contextlib import suppress

from headmix_server.core.grammar import GrammarError
from headmix_server.core.messages import Aborted
from headmix_server.core.runner import BatchRow, RowResult
from headmix_server.core.types import TokenCounts
from headmix_server.engine.sequence import Sequence


class Accounts:
    """The accounts that are ready, and those waiting for the step in flight."""

    def __init__(self, eos_ids: frozenset[int] = frozenset()) -> None:
        self._eos_ids = eos_ids
        self._ready: list[Aborted] = []
        self._in_flight: dict[int, Sequence] = {}
        self._ended: dict[str, TokenCounts] = {}

    def __len__(self) -> int:
        return len(self._ready)

    def ended(self, sequence: Sequence) -> None:
        """Keep a finished request's counts until its last output is sent (`said`): an abort may still withdraw that."""
        self._ended[sequence.request_id] = sequence.counts()

    def said(self) -> None:
        """Forget the finished requests: their outputs have been handed over."""
        self._ended.clear()

    def abort(self, request_id: str, sequence: Sequence | None, *, in_flight: bool) -> None:
        """Open the account of an aborted request; `sequence` is None if the request is not open."""
        if sequence is not None and in_flight:
            self._in_flight[sequence.sequence_id] = sequence
        else:
            counts = self._ended.get(request_id, TokenCounts()) if sequence is None else sequence.counts()
            self._ready.append(Aborted(request_id=request_id, counts=counts))

    def commit(self, row: BatchRow, result: RowResult) -> Sequence | None:
        """Count what a finished step computed for a request aborted meanwhile; returns its sequence or None."""
        sequence = self._in_flight.get(row.sequence_id)
        if sequence is not None:
            sequence.read_up_to(row.end)
            with suppress(GrammarError):  # the request gets no more output anyway
                sequence.gain(result.tokens, self._eos_ids)
        return sequence

    def land(self) -> None:
        """Close the accounts that were waiting for the step in flight."""
        for sequence in self._in_flight.values():
            self._ready.append(Aborted(request_id=sequence.request_id, counts=sequence.counts()))
        self._in_flight.clear()

    def take(self) -> list[Aborted]:
        """Return the accounts that became ready since the last call."""
        ready, self._ready = self._ready, []
        return ready
