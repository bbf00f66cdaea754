"""How much background work a step may do, so that other requests hardly notice it.

A request that arrives waits for the step in flight, so steps of background work alone are kept short: their tokens
follow from how long the last ones took. A step with other rows takes background rows only rarely. Knows only counts
and seconds; the scheduler chooses the rows.
"""

import time
from collections.abc import Callable

BUSY_SECONDS = 0.02
"""How long a step of background work may take while others send requests."""

QUIET_SECONDS = 0.1
"""How long one may take while nobody else does."""

QUIET_AFTER_SECONDS = 10.0
"""How long after the last other request that is."""

FIRST_TOKENS = 16
"""The most tokens of the first step, before it is known how long any takes."""

STEPS_BETWEEN = 200
"""Steps with other rows between two that take background rows too: beside endless traffic, a batch still advances."""


class BackgroundPace:
    """The pace of one engine. `most` is the most tokens of any step; `clock` is monotonic, in seconds."""

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._budget = float(min(most, FIRST_TOKENS))
        self._last_other: float | None = None
        self._steps = 0

    @property
    def budget(self) -> int:
        """The most tokens of background work in the next step; at least one."""
        return max(1, int(self._budget))

    def other_arrived(self) -> None:
        """Record that a request arrived that is not background work."""
        now = self._clock()
        if self._target(now) == QUIET_SECONDS:
            self._budget = max(1.0, self._budget * BUSY_SECONDS / QUIET_SECONDS)
        self._last_other = now

    def may_join(self) -> bool:
        """Return whether a step with other rows takes background rows as well; call it once for each such step."""
        self._steps = (self._steps + 1) % STEPS_BETWEEN
        return self._steps == 0

    def observe(self, tokens: int, seconds: float) -> None:
        """Record how long a step of so many tokens of background work alone took."""
        target = self._target(self._clock())
        if seconds > target:
            self._budget = max(1.0, min(self._budget, tokens * target / seconds))
        elif tokens >= self.budget:
            self._budget = min(float(self._most), self._budget + max(1.0, self._budget / 8))

    def _target(self, now: float) -> float:
        is_quiet = self._last_other is None or now - self._last_other >= QUIET_AFTER_SECONDS
        return QUIET_SECONDS if is_quiet else BUSY_SECONDS
