"""How often guesses were right, by the length of the match behind them, and how many tokens are worth guessing."""

SHORTEST, LONGEST = 2, 4
"""The number of last tokens that must match an earlier place: the minimum required, and the most that are compared."""

FIRST_RATES = (0.15, 0.25, 0.4)
"""Rates assumed for matches of 2, 3 and 4 tokens until there is evidence: too low to guess while others run."""

WEIGHT = 0.15
"""Weight of the latest guess in the average."""

MOST = 0.97
"""Upper bound on a rate, however often guesses were right: a wrong guess must always be expected."""


class HitRates:
    """The hit rates of one sequence."""

    def __init__(self) -> None:
        self._rates = list(FIRST_RATES)

    def rate(self, length: int) -> float:
        """Return the probability that what followed a match of this length follows again."""
        return min(MOST, self._rates[min(length, LONGEST) - SHORTEST])

    def count(self, length: int, *, right: bool) -> None:
        """Record whether a guess was right."""
        place = min(length, LONGEST) - SHORTEST
        self._rates[place] += WEIGHT * (right - self._rates[place])

    def worth(self, length: int, most: int, least: float) -> int:
        """Return how many tokens, up to `most`, are all right with a probability of `least`; each extends the match."""
        count, chance = 0, self.rate(length)
        while count < most and chance >= least:
            count += 1
            chance *= self.rate(length + count)
        return count
