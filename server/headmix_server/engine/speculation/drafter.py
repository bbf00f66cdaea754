"""What guesses how a sequence goes on.

A wrong guess costs time and never changes an answer: it counts only where the sampler chooses the same token.
"""

from collections.abc import Sequence as Seq
from typing import Protocol


class Drafter(Protocol):
    """Guesses for one sequence, of whose tokens it keeps what it likes; it lives as long as the sequence."""

    def draft(self, tokens: Seq[int], most: int, least: float) -> Seq[int]:
        """Return at most `most` tokens that may follow, each right with a chance of `least` or better.

        `tokens` are the sequence's prompt and output, which only grow from one call to the next: what has come of the
        last guess is there to see.
        """
        ...
