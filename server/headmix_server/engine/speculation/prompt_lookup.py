"""Prompt lookup: guess that a sequence continues as it did where its last tokens occurred before, in prompt or output.

That works where text is copied: edits, extraction, code, quotes, JSON. A guess is made at every step, even if it is not
used, and compared later, so learning when guesses pay costs nothing. Knows only its own sequence.
"""

from array import array
from collections.abc import Sequence as Seq

from headmix_server.engine.speculation.hit_rates import LONGEST, SHORTEST, HitRates

CANDIDATES = 8
"""Number of places that are compared, the latest first."""

INDEXED_AT_ONCE = 4096
"""Tokens indexed before a step: about a millisecond. There are no guesses until a long prompt is fully indexed."""


class PromptLookup:
    """See `Drafter`. `_latest` maps a pair of tokens to the position after it, `_before[p]` leads to the one before p.

    0 ends the chain: no pair ends there. `_guess` is the last guess, made from a match of `_length` tokens when the
    sequence had `_position` tokens.
    """

    def __init__(self) -> None:
        self._rates = HitRates()
        self._latest: dict[int, int] = {}
        self._before = array("i", [0] * SHORTEST)
        self._guess: list[int] = []
        self._length = 0
        self._position = 0

    def draft(self, tokens: Seq[int], most: int, least: float) -> Seq[int]:
        """See `Drafter.draft`."""
        self._check_guess(tokens)
        self._index(tokens)
        place, length = self._find(tokens) if len(self._before) > len(tokens) else (0, 0)
        if not place:
            return ()
        count = self._rates.worth(length, most, least)
        self._guess = _read_on(tokens, place, max(1, count))
        self._length, self._position = length, len(tokens)
        return self._guess if count else ()

    def _check_guess(self, tokens: Seq[int]) -> None:
        """Compare the last guess with the actual tokens, up to its first wrong one."""
        for place, token in enumerate(self._guess[: len(tokens) - self._position]):
            right = tokens[self._position + place] == token
            self._rates.count(self._length + place, right=right)
            if not right:
                break
        self._guess = []

    def _index(self, tokens: Seq[int]) -> None:
        """Extend the index: the chain has an entry for every position, including the one after the last token."""
        start = len(self._before)
        end = min(len(tokens) + 1, start + INDEXED_AT_ONCE)
        latest, before = self._latest, self._before
        for position in range(start, end):
            pair = tokens[position - 2] << 32 | tokens[position - 1]
            before.append(latest.get(pair, 0))
            latest[pair] = position

    def _find(self, tokens: Seq[int]) -> tuple[int, int]:
        """Return the position after the longest match with the last tokens, the latest in a tie, and its length.

        Both are 0 if not even two tokens match.
        """
        found, longest = 0, 0
        place = self._before[len(tokens)]
        for _ in range(CANDIDATES):
            if not place:
                break
            length = _match_length(tokens, place)
            if length > longest:
                found, longest = place, length
            if longest == LONGEST:
                break
            place = self._before[place]
        return found, longest


def _match_length(tokens: Seq[int], place: int) -> int:
    """Return how many of the last tokens also precede a place; two are known to."""
    length, end = SHORTEST, len(tokens)
    while length < min(LONGEST, place) and tokens[place - 1 - length] == tokens[end - 1 - length]:
        length += 1
    return length


def _read_on(tokens: Seq[int], place: int, count: int) -> list[int]:
    """Return the tokens from a place on; at the end the guess itself continues, so that repetition goes on."""
    drafts = list(tokens[place : place + count])
    period = len(drafts)
    while len(drafts) < count:
        drafts.append(drafts[-period])
    return drafts
