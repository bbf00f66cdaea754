"""When sequences get drafts, and how many turned out right.

Owns the rule of few rows and the counts for the metrics; what is guessed is a drafter's. A step of few rows waits for
the weights to be read, so some more tokens cost it little; one of many rows is busy computing.
"""

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from headmix_server.core.runner import BatchRow, RowResult
from headmix_server.engine.sequence import Sequence, generates
from headmix_server.engine.speculation.drafter import Drafter
from headmix_server.engine.speculation.prompt_lookup import PromptLookup

MOST_ROWS = 8
"""Sequences running, above which no step has drafts."""

FIXED_COST = 3.0
"""What a step costs beside its tokens, in tokens: reading the weights. Measured 8 and more; less is on the safe side.

A draft pays where it is right with a chance of `rows / (rows + FIXED_COST)`: one token more for its part of the step.
"""


@dataclass(slots=True)
class DraftCounts:
    """Tokens guessed, and how many of them were right, since the counts were taken."""

    drafted: int = 0
    accepted: int = 0


class Speculation:
    """Speculation for all sequences of an engine; `most` are the tokens guessed ahead of one in a step, 0: none.

    `make_drafter` makes what guesses for one sequence.
    """

    def __init__(self, most: int, make_drafter: Callable[[], Drafter] = PromptLookup) -> None:
        self._most = most
        self._make_drafter = make_drafter
        self._counts = DraftCounts()

    def begin(self, sequence: Sequence) -> None:
        """Give a new sequence its drafter; one that a grammar binds has none."""
        if self._most and generates(sequence.params) and sequence.grammar is None:
            sequence.drafter = self._make_drafter()

    def pays(self, num_rows: int) -> bool:
        """Return whether a step of so many sequences may have drafts."""
        return bool(self._most) and num_rows <= MOST_ROWS

    def draft(self, sequence: Sequence, most: int, num_rows: int) -> Seq[int]:
        """Return guesses of the next tokens of one of a step's sequences, at most so many, that are worth their cost.

        With the token that the step yields anyhow they never exceed what the sequence may generate.
        """
        drafter, left = sequence.drafter, sequence.max_outputs - sequence.num_outputs - 1
        most = min(self._most, most, left)
        if drafter is None or most < 1:
            return ()
        return drafter.draft(sequence.tokens, most, num_rows / (num_rows + FIXED_COST))

    def judge(self, sequence: Sequence, row: BatchRow, result: RowResult) -> None:
        """Count what became of a row's drafts; one that could not be verified is the sequence's last with any."""
        self._counts.drafted += len(row.drafts)
        self._counts.accepted += len(result.further)
        if result.result is None:
            sequence.drafter = None

    def take_counts(self) -> DraftCounts:
        """Return the counts since the last call."""
        counts, self._counts = self._counts, DraftCounts()
        return counts
