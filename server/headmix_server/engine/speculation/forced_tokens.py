"""Forced tokens: where a grammar leaves one text, such as the keys of an object, guess its usual tokens.

The text is certain, its tokens are not: a model may write it in other pieces. So these are guesses like all others.
"""

from collections.abc import Sequence as Seq

from headmix_server.core.grammar import GrammarError
from headmix_server.engine.sequence import Sequence
from headmix_server.engine.speculation.hit_rates import MOST, WEIGHT

FIRST_RATE = 0.9
"""Rate assumed until there is evidence: models mostly write a text in its usual pieces."""


class ForcedTokens:
    """See `Drafter`; `sequence` is the one that it guesses for, whose matcher may come later.

    `_guess` was made when the sequence had `_position` tokens.
    """

    def __init__(self, sequence: Sequence) -> None:
        self._sequence = sequence
        self._rate = FIRST_RATE
        self._guess: Seq[int] = ()
        self._position = 0

    def draft(self, tokens: Seq[int], most: int, least: float) -> Seq[int]:
        """See `Drafter.draft`. The guess is looked for even if it is not used, so that its rate is known."""
        self._check_guess(tokens)
        matcher = self._sequence.matcher
        if matcher is None:
            return ()
        try:
            forced = matcher.forced()[:most]
        except GrammarError:  # the step itself finds that out
            return ()
        self._guess, self._position = forced, len(tokens)
        count, chance = 0, self._rate
        while count < len(forced) and chance >= least:
            count += 1
            chance *= self._rate
        return forced[:count]

    def _check_guess(self, tokens: Seq[int]) -> None:
        """Compare the last guess with the actual tokens, up to its first wrong one."""
        for place, token in enumerate(self._guess[: len(tokens) - self._position]):
            right = tokens[self._position + place] == token
            self._rate = min(MOST, self._rate + WEIGHT * (right - self._rate))
            if not right:
                break
        self._guess = ()
