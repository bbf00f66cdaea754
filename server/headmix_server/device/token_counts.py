"""How often each token has been seen, for the sequences that request penalties.

A sequence's table is created at its first choice and updated with the tokens it gains. A sequence that comes back after
preemption is counted again from the start, once. Knows nothing of scores.
"""

from array import array
from collections.abc import Sequence

from headmix_server.core.runner import BatchRow


class TokenCounts:
    """The tables of all sequences with penalties."""

    def __init__(self) -> None:
        self._tables: dict[int, _Table] = {}

    def seen(self, row: BatchRow, num_drafts: int = 0) -> "array[int]":
        """Return pairs of numbers: each token of the row's history once, and how often it occurs in the output.

        The first `num_drafts` drafts count as output, but only here, because they may be wrong. The returned array is
        shared: copy it to keep it for longer than a step.
        """
        table = self._tables.setdefault(row.sequence_id, _Table())
        table.read(row)
        return table.with_more(row.drafts[:num_drafts]) if num_drafts else table.entries

    def release(self, sequence_id: int) -> None:
        """Forget a sequence; does nothing if it is unknown."""
        self._tables.pop(sequence_id, None)

    def __len__(self) -> int:
        return len(self._tables)


class _Table:
    """One sequence's `entries`, the index of each token's entry, and how many tokens are counted."""

    def __init__(self) -> None:
        self.entries = array("i")
        self._places: dict[int, int] = {}
        self._counted = 0

    def read(self, row: BatchRow) -> None:
        """Count the tokens that are new."""
        for position in range(self._counted, len(row.history)):
            token = row.history[position]
            place = self._places.get(token)
            if place is None:
                place = self._places[token] = len(self.entries)
                self.entries.extend((token, 0))
            self.entries[place + 1] += position >= row.prompt_length
        self._counted = len(row.history)

    def with_more(self, answered: Sequence[int]) -> "array[int]":
        """Return the entries as they would be with these tokens appended to the output."""
        entries, places = self.entries[:], dict[int, int]()
        for token in answered:
            place = self._places.get(token, places.get(token))
            if place is None:
                place = places[token] = len(entries)
                entries.extend((token, 0))
            entries[place + 1] += 1
        return entries
