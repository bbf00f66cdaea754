"""When a batch that runs gives its place to another tenant's: as soon as that one would be claimed before it.

Values only. A place is worth taking turns at because a batch continues where it stopped, on any later claim.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from headmix_server.jobs.next_job import NOTHING_HAD, Had

TURN_SECONDS = 60.0
"""How long a batch keeps its place at least: to begin a turn, its file and its answers are read again."""


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
