"""Whether the lease may be taken, decided from looks at it on one's own clock."""

from enum import Enum, auto

from headmix_server.database.lease.lease import Seen

LONGEST_GAP = 0.25
"""Of the time the row must stand still, the part that may lie between two looks and still count in full.

A long time without a look proves little: the holder may have been kept from the database as well.
"""


class Verdict(Enum):
    """What a look at the lease means."""

    FREE = auto()
    """It may be taken."""
    HELD = auto()
    """A server holds it and lives."""
    UNKNOWN = auto()
    """Its holder may be gone: look again."""


class LeaseWatch:
    """Judges one look after another. Times are seconds on any steady clock; `place` is the watcher's, see `Holder`."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._first: Seen | None = None
        self._looked_at = 0.0
        self._stood_still = 0.0

    def judge(self, seen: Seen, now: float) -> Verdict:
        """Return what a row means that was read just before `now`.

        That it may be taken is true of a row that is still the same then: it has stood still since the first look.
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
