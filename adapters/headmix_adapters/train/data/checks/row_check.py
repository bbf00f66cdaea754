"""What a check of a task's rows does; `generation` and `classification` are the two."""

from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from headmix_adapters.train.data.checks.estimate import TokenEstimate
from headmix_adapters.train.data.held_out import question_of
from headmix_adapters.train.data.rows import Row

ALL_EXCLUDED = "every row has weight 0 or trainable false: there is nothing to learn"


class Questions:
    """Whether all rows ask the same, which `split_rows` refuses; keeps one hash, however many rows there are."""

    def __init__(self) -> None:
        self._first: int | None = None
        self.differ = False

    def add(self, row: Row) -> None:
        """Count a row, in the form that is split."""
        if self.differ:
            return
        question = hash(question_of(row))
        self.differ = self._first not in {None, question}
        self._first = question


class RowCheck(Protocol):
    """Reads rows with the functions that training reads them with, and counts what they have."""

    examples: int
    excluded: int
    labels: Counter[str]
    estimate: TokenEstimate
    questions: Questions

    def check(self, row: Row) -> None:
        """Count a row.

        Raises:
            DataError: it cannot be trained on.
        """

    def faults(self) -> Iterator[str]:
        """Yield what is wrong with all rows together, after the last."""

    def notes(self) -> Iterator[str]:
        """Yield what is worth knowing about the rows, after the last."""
