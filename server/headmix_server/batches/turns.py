"""When a batch that runs gives its place to another tenant's: as soon as that one would be claimed before it.

A place is worth taking turns at because a batch continues where it stopped, on any later claim. Knows no lines.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from headmix_server.jobs.next_job import NOTHING_HAD, Had

TURN_SECONDS = 60.0
"""How long a batch keeps its place at least: to begin a turn, its file and its answers are read again."""

LEAVE_SECONDS = 30.0
"""How long a batch that is asked for its place may wait for the lines in computation."""


class Turn:
    """A batch's time at a place, until it is asked to leave and nothing is lost by that."""

    def __init__(self) -> None:
        self._leave_by: float | None = None
        self._answered = 0
        self._resting = 0

    @property
    def is_ending(self) -> bool:
        """Whether the batch was asked to give its place to another."""
        return self._leave_by is not None

    @property
    def is_over(self) -> bool:
        """Whether it was asked more than `LEAVE_SECONDS` ago."""
        return self._leave_by is not None and time.monotonic() >= self._leave_by

    def end(self) -> None:
        """Ask for the place; the first time counts."""
        if self._leave_by is None:
            self._leave_by = time.monotonic() + LEAVE_SECONDS

    def answered(self) -> None:
        """Count a line that was answered: the turn was not for nothing."""
        self._answered += 1

    @contextmanager
    def rest(self) -> Iterator[None]:
        """Count a line for which nothing is computed during the block, so that it can be dropped at no cost."""
        self._resting += 1
        try:
            yield
        finally:
            self._resting -= 1

    def may_leave(self, open_lines: int) -> bool:
        """Return whether to leave now: no line is computed, or this turn was not for nothing and its time is over."""
        return self.is_ending and (open_lines <= self._resting or (self._answered > 0 and self.is_over))


class Place(NamedTuple):
    """A batch that runs: whose it is, and for how many seconds."""

    batch: str
    tenant: str
    seconds: float


def who_yields(places: Sequence[Place], had: Mapping[str, Had], waiting: str) -> Place | None:
    """Return the place that a waiting tenant's batch should get, or None if there is none for it now.

    It is the longest held of the tenant that has had most, if that one's turn is over, and if it would still have had
    more than the waiting one with a batch less: otherwise the same batch would be claimed again.
    """
    others = [place for place in places if place.tenant != waiting and place.seconds >= TURN_SECONDS]
    if not others:
        return None
    most = max(others, key=lambda place: (had.get(place.tenant, NOTHING_HAD), place.seconds))
    has, asks = had.get(most.tenant, NOTHING_HAD), had.get(waiting, NOTHING_HAD)
    return most if has._replace(running=has.running - 1) > asks else None
