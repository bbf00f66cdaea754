"""Rows of a batch that run with one slot: how a step says which rows are whose."""

from typing import NamedTuple


class SlotSpan(NamedTuple):
    """The rows from `first` on, `num_rows` of them, run with the adapter in `slot`. A slot may have several spans."""

    slot: int
    first: int
    num_rows: int

    @property
    def rows(self) -> range:
        """The rows of the batch."""
        return range(self.first, self.first + self.num_rows)
