"""When sequences get drafts, and how many were right.

Owns the limit to steps of few rows and the counts for the metrics; drafters make the guesses. A step of few rows waits
for the weights to be read, so a few more tokens cost it little; a step of many rows is compute-bound.
"""

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from headmix_server.core.runner import BatchRow, RowResult
from headmix_server.engine.sequence import Sequence, generates
from headmix_server.engine.speculation.drafter import Drafter
from headmix_server.engine.speculation.forced_tokens import ForcedTokens
from headmix_server.engine.speculation.prompt_lookup import PromptLookup

MOST_ROWS = 8
"""The most running sequences for which a step has drafts."""

FIXED_COST = 3.0
"""The fixed cost of a step, in tokens: reading the weights. Measured as 8 and more; a lower value is conservative.

A draft pays if it is right with a probability of `rows / (rows + FIXED_COST)`: one more token for its part of the step.
"""


@dataclass(slots=True)
class DraftCounts:
    """Tokens guessed, and how many of them were right, since the counts were last taken."""

    drafted: int = 0
    accepted: int = 0


class Speculation:
    """Speculation for all sequences of an engine; `most` is how many tokens a step guesses per sequence, 0 for none.

    `make_drafter` creates the drafter of one sequence without a grammar; with one, its forced tokens are guessed.
    """

    def __init__(self, most: int, make_drafter: Callable[[], Drafter] = PromptLookup) -> None:
        self._most = most
        self._make_drafter = make_drafter
        self._counts = DraftCounts()

    def begin(self, sequence: Sequence) -> None:
        """Give a new sequence its drafter."""
        if self._most and generates(sequence.params):
            sequence.drafter = self._make_drafter() if sequence.grammar is None else ForcedTokens(sequence)

    def pays(self, num_rows: int) -> bool:
        """Return whether a step of this many sequences may have drafts."""
        return bool(self._most) and num_rows <= MOST_ROWS

    def draft(self, sequence: Sequence, most: int, num_rows: int) -> Seq[int]:
        """Return up to `most` guesses of a sequence's next tokens, worth their cost in a step of `num_rows` rows.

        Together with the token that the step yields anyway, they never exceed what the sequence may generate.
        """
        drafter, left = sequence.drafter, sequence.max_outputs - sequence.num_outputs - 1
        most = min(self._most, most, left)
        if drafter is None or most < 1:
            return ()
        return drafter.draft(sequence.tokens, most, num_rows / (num_rows + FIXED_COST))

    def judge(self, sequence: Sequence, row: BatchRow, result: RowResult) -> None:
        """Count the outcome of a row's drafts; if they could not be verified, the sequence gets no more drafts."""
        self._counts.drafted += len(row.drafts)
        self._counts.accepted += len(result.further)
        if result.result is None:
            sequence.drafter = None

    def take_counts(self) -> DraftCounts:
        """Return the counts since the last call."""
        counts, self._counts = self._counts, DraftCounts()
        return counts
