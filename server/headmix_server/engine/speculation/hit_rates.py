"""How often guesses were right, by the length of the match they were made from, and how far the next is worth it."""

SHORTEST, LONGEST = 2, 4
"""Of the last tokens, how many must have come before at least, and how many are compared at most."""

FIRST_RATES = (0.15, 0.25, 0.4)
"""What is assumed of a match of 2, 3 and 4 tokens until there is something to go by: too little to guess in company."""

WEIGHT = 0.15
"""Of the latest guess among all."""

MOST = 0.97
"""However often guesses were right: one that is computed in vain should not come as a surprise."""


class HitRates:
    """The rates of one sequence."""

    def __init__(self) -> None:
        self._rates = list(FIRST_RATES)

    def rate(self, length: int) -> float:
        """Return the chance that what followed a match of so many tokens follows again."""
        return min(MOST, self._rates[min(length, LONGEST) - SHORTEST])

    def count(self, length: int, *, right: bool) -> None:
        """Take in whether a guess was right."""
        place = min(length, LONGEST) - SHORTEST
        self._rates[place] += WEIGHT * (right - self._rates[place])

    def worth(self, length: int, most: int, least: float) -> int:
        """Return how many tokens are right together with a chance of `least`, when each makes the match longer."""
        count, chance = 0, self.rate(length)
        while count < most and chance >= least:
            count += 1
            chance *= self.rate(length + count)
        return count
