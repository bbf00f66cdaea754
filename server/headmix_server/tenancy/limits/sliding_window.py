"""The arithmetic of a sliding window: the last minute's count, from the counts of two clock minutes.

The previous minute's count fades linearly while the current minute passes. Everything is in whole milliseconds and
whole counts, so that the reported wait is exactly the wait needed.
"""

from dataclasses import dataclass

WINDOW_MS = 60_000


@dataclass(frozen=True, slots=True)
class Window:
    """Counts of the previous and the current minute; `position` is the time into the current one, in milliseconds."""

    previous: int
    current: int
    position: int

    def remaining(self, limit: int) -> int:
        """Return the largest cost that fits now."""
        return max(0, (limit * WINDOW_MS - self._used()) // WINDOW_MS)

    def fits(self, cost: int, limit: int) -> bool:
        """Return whether the cost can be added now."""
        return self._used() + cost * WINDOW_MS <= limit * WINDOW_MS

    def wait(self, cost: int, limit: int) -> int:
        """Return the milliseconds after which a cost of at most `limit` fits, if nothing else is added until then."""
        if self.fits(cost, limit):
            return 0
        room = limit - cost
        if self.current <= room:
            return _faded(self.previous, room - self.current) - self.position
        # The rest of this minute, then the part of the next one until this one's count has faded enough.
        return WINDOW_MS - self.position + _faded(self.current, room)

    def _used(self) -> int:
        return self.previous * (WINDOW_MS - self.position) + self.current * WINDOW_MS


def _faded(count: int, room: int) -> int:
    """Return the first position at which a whole minute's count has faded to `room`; the count must not be 0."""
    return max(0, WINDOW_MS - room * WINDOW_MS // count)
