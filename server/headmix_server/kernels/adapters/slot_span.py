"""A span of batch rows that run with the same adapters, each in its slot."""

from typing import NamedTuple


class SlotUse(NamedTuple):
    """The adapter in `slot`, with its terms times `scale`."""

    slot: int
    scale: float = 1.0


class SlotSpan(NamedTuple):
    """The `num_rows` rows from `first` on run with the adapter in `slot` and those `beside` it; their terms add up.

    A slot may have several spans, but a row is in one at most.
    """

    slot: int
    first: int
    num_rows: int
    scale: float = 1.0
    beside: tuple[SlotUse, ...] = ()

    @property
    def rows(self) -> range:
        """The rows of the batch."""
        return range(self.first, self.first + self.num_rows)

    @property
    def uses(self) -> tuple[SlotUse, ...]:
        """All adapters of these rows, in the order in which their terms are added."""
        return (SlotUse(self.slot, self.scale), *self.beside)

    @property
    def is_plain(self) -> bool:
        """Whether the rows run with one adapter, unscaled."""
        return self.scale == 1 and not self.beside
