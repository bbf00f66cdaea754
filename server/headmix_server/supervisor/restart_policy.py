"""When an engine that died may be started again, and when another attempt is pointless.

Arithmetic on the times it is given; it starts nothing and reads no clock.
"""

import random
from collections import deque

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
JITTER = 0.25
"""Pauses vary by up to this fraction, so that servers sharing a broken disk do not retry in step."""


class RestartPolicy:
    """Exponential backoff over the deaths of the last `window` seconds; more than `limit` deaths are a crash loop.

    Deaths before the engine was ever ready count however long ago they were: an engine that takes longer to start than
    the window would otherwise be retried forever.
    """

    def __init__(self, limit: int, window: float, *, chance: random.Random | None = None) -> None:
        self._limit = limit
        self._window = window
        self._chance = chance if chance is not None else random.Random()  # noqa: S311 - jitter is no secret
        self._deaths: deque[float] = deque()
        self._failed_starts = 0

    def died(self, now: float, *, was_ready: bool) -> float | None:
        """Record a death at `now` (seconds on any steady clock); return the pause before the next start in seconds.

        None means a crash loop: do not start again.
        """
        self._deaths.append(now)
        while self._deaths[0] <= now - self._window:
            self._deaths.popleft()
        self._failed_starts = 0 if was_ready else self._failed_starts + 1
        count = max(len(self._deaths), self._failed_starts)
        if count > self._limit:
            return None
        # The exponent is bounded because a large one overflows a float; the cap is reached long before.
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(count - 1, 16))
        return pause * self._chance.uniform(1 - JITTER, 1 + JITTER)
