"""Whether the lease may be taken, decided from repeated reads of it on the watcher's own clock."""

from enum import Enum, auto

from headmix_server.database.lease.lease import Seen

LONGEST_GAP = 0.25
"""The most that the time between two reads counts, as a fraction of the time that the row must remain unchanged.

A long time without a read proves little: the holder may have been cut off from the database as well.
"""


class Verdict(Enum):
    """What a read of the lease means."""

    FREE = auto()
    """It may be taken."""
    HELD = auto()
    """A live server holds it."""
    UNKNOWN = auto()
    """Its holder may be gone: read it again."""


class LeaseWatch:
    """Judges one read after another. Times are seconds on any steady clock; `place` is the watcher's, see `Holder`."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._first: Seen | None = None
        self._looked_at = 0.0
        self._stood_still = 0.0

    def judge(self, seen: Seen, now: float) -> Verdict:
        """Return the meaning of a row that was read just before `now`.

        FREE holds only as long as the row does not change: it has been unchanged since the first read.
        """
        if seen.token is None or (self._place and seen.place == self._place):
            return Verdict.FREE
        if self._first is None:
            self._first = seen
        elif seen != self._first:
            return Verdict.HELD
        else:
            self._stood_still += min(now - self._looked_at, LONGEST_GAP * seen.seconds)
        self._looked_at = now
        return Verdict.FREE if self._stood_still >= seen.seconds else Verdict.UNKNOWN
