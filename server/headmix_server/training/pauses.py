"""When a worker rests: after a failure of the store or of its machine, which the next job would meet as well.

The pauses grow while nothing else happens. Jobs that have met a failure come after others for some time: one that is
too large for this machine's disk must not keep it from the rest.
"""

import time
from collections.abc import Callable

FIRST_SECONDS, LONGEST_SECONDS = 2.0, 60.0
LAST_SECONDS = 300.0
"""How long a job comes after others."""


class Pauses:
    """One worker's. `clock` is any steady one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._until = 0.0
        self._last: dict[str, float] = {}

    def failed(self, job_id: str) -> float:
        """Begin a pause after a failure that a job has met; return its seconds."""
        now, seconds = self._clock(), min(FIRST_SECONDS * 2.0**self._failures, LONGEST_SECONDS)
        self._failures = min(self._failures + 1, 10)
        self._until = now + seconds
        self._last.pop(job_id, None)  # it becomes the last of them
        self._last[job_id] = now + LAST_SECONDS
        return seconds

    def worked(self, job_id: str) -> None:
        """Note that a job met none: the next pause is short again."""
        self._failures = 0
        self._last.pop(job_id, None)

    @property
    def is_on(self) -> bool:
        """Whether to claim nothing now."""
        return self._clock() < self._until

    @property
    def last(self) -> tuple[str, ...]:
        """The ids of the jobs that come after others now; first the one whose failure was the longest ago."""
        now = self._clock()
        self._last = {job_id: until for job_id, until in self._last.items() if until > now}
        return tuple(self._last)
