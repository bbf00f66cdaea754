"""What a check of a task's rows does; `generation` and `classification` are the two."""

from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from headmix_adapters.train.data.checks.estimate import TokenEstimate
from headmix_adapters.train.data.rows import Row

ALL_EXCLUDED = "every row has weight 0 or trainable false: there is nothing to learn"


class RowCheck(Protocol):
    """Reads rows with the functions that training reads them with, and counts what they have."""

    examples: int
    excluded: int
    labels: Counter[str]
    estimate: TokenEstimate

    def check(self, row: Row) -> None:
        """Count a row.

        Raises:
            DataError: it cannot be trained on.
        """

    def faults(self) -> Iterator[str]:
        """Yield what is wrong with all rows together, after the last."""

    def notes(self) -> Iterator[str]:
        """Yield what is worth knowing about the rows, after the last."""
