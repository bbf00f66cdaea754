"""A span of batch rows that run with the same slot."""

from typing import NamedTuple


class SlotSpan(NamedTuple):
    """The `num_rows` rows from `first` on run with the adapter in `slot`. A slot may have several spans."""

    slot: int
    first: int
    num_rows: int

    @property
    def rows(self) -> range:
        """The rows of the batch."""
        return range(self.first, self.first + self.num_rows)
