"""How an attempt waits for the store or its machine at its end, when what it has done would be lost: with its claim."""

import time
from collections.abc import Callable
from typing import TypeVar

from headmix_server.core.observability.logging import get_logger
from headmix_server.jobs.claims import ClaimLostError
from headmix_server.training.control import Control
from headmix_server.training.job.keeper import ClaimKeeper
from headmix_server.training.job.outside import OUTSIDE, reason_of
from headmix_server.training.pauses import FIRST_SECONDS, LONGEST_SECONDS

T = TypeVar("T")
_TICK_SECONDS = 0.2


class Patience:
    """One attempt's, whose claim the keeper keeps. `is_waiting` may be read by any thread."""

    def __init__(self, keeper: ClaimKeeper, control: Control) -> None:
        self._keeper = keeper
        self._control = control
        self._log = get_logger("training")
        self.is_waiting = False

    def work(self, work: Callable[[], T], *, says: Callable[[str], None] | None = None) -> T:
        """Work, and again after growing pauses for as long as failures are outside of the job.

        `says` is called with each new reason; if it is given, a tenant's wish ends the waiting, else only the worker's
        stop does.

        Raises:
            ClaimLostError: the job is another's by now.
            HeadmixServerError, OSError: the last failure.
        """
        said, seconds = set[str](), FIRST_SECONDS
        while True:
            try:
                return work()
            except FileNotFoundError:
                raise
            except OUTSIDE as error:
                self._log.warning("the job waits", reason=str(error))
                reason = reason_of(error)
                if says is not None and reason not in said:
                    said.add(reason)
                    says(reason)
                if not self._wait(seconds, yields=says is not None):
                    raise
            seconds = min(2 * seconds, LONGEST_SECONDS)

    def _wait(self, seconds: float, *, yields: bool) -> bool:
        """Wait, and return true; return false as soon as the waiting is to end."""
        end, self.is_waiting = time.monotonic() + seconds, True
        try:
            while time.monotonic() < end:
                if self._keeper.lost.is_set():
                    raise ClaimLostError(self._keeper.job_id)
                if self._control.stopping.wait(_TICK_SECONDS) or (yields and self._keeper.wanted is not None):
                    return False
        finally:
            self.is_waiting = False
        return True
