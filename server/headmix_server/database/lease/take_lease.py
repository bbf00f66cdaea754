"""Taking the lease at a start: at once where nobody has it, after a wait where its holder is gone, or not at all."""

import time
from collections.abc import Callable

from headmix_server.core.observability.logging import get_logger
from headmix_server.database.lease.lease import Lease
from headmix_server.database.lease.lease_watch import LeaseWatch, Verdict

LONGEST_PAUSE = 1.0
LOOKS = 10
"""Looks during a wait, so that a beat of a holder that lives is seen soon after it."""


class LeaseHeldError(Exception):
    """Another server, `holder`, holds the lease and lives."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"the database is in use by another headmix server ({holder})")
        self.holder = holder


def take_lease(lease: Lease, *, clock: Callable[[], float], sleep: Callable[[float], None] = time.sleep) -> float:
    """Take the lease; return the moment before it was taken. Waits as long as it takes to find its last holder gone.

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
