"""Takes the lease at startup: at once if it is free, after a wait if its holder is gone, or not at all."""

import time
from collections.abc import Callable

from headmix_server.core.observability.logging import get_logger
from headmix_server.database.lease.lease import Lease
from headmix_server.database.lease.lease_watch import LeaseWatch, Verdict

LONGEST_PAUSE = 1.0
LOOKS = 10
"""Reads during a wait, so that a live holder's next beat is noticed soon."""


class LeaseHeldError(Exception):
    """Another live server, `holder`, holds the lease."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"the database is in use by another headmix server ({holder})")
        self.holder = holder


def take_lease(lease: Lease, *, clock: Callable[[], float], sleep: Callable[[float], None] = time.sleep) -> float:
    """Take the lease and return the time just before that; waits for as long as it takes to find its holder gone.

    Raises:
        LeaseHeldError: another server holds it.
        HeadmixServerError: the database cannot be used.
    """
    watch, waits = LeaseWatch(lease.holder.place), False
    while True:
        seen = lease.look()
        verdict = watch.judge(seen, clock())
        if verdict is Verdict.HELD:
            raise LeaseHeldError(seen.holder)
        if verdict is Verdict.FREE:
            began = clock()
            if lease.take(seen):
                return began
        elif not waits:
            waits = True
            get_logger("lease").info(
                "waiting to see whether the lease's holder is alive", holder=seen.holder, seconds=seen.seconds
            )
        sleep(min(LONGEST_PAUSE, seen.seconds / LOOKS))
