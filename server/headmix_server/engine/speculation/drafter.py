"""What guesses how a sequence continues.

A wrong guess costs time but never changes the output: a guess counts only if the sampler chooses the same token.
"""

from collections.abc import Sequence as Seq
from typing import Protocol


class Drafter(Protocol):
    """Guesses for one sequence, keeping what it needs of its tokens; it lives as long as the sequence."""

    def draft(self, tokens: Seq[int], most: int, least: float) -> Seq[int]:
        """Return at most `most` tokens that may follow, each right with a probability of at least `least`.

        `tokens` are the sequence's prompt and output, which only grow between calls, so they show whether the last
        guess was right.
        """
        ...
