"""The lag of the event loop: measured continuously, exported as a metric, and logged if it is too high.

Everything the API process does for a client passes through one loop, so whatever blocks it stalls every client, for as
long as a timer runs late. The CPU time of the loop's own thread over the same span reveals the cause: if it is about
the lag itself, the loop was computing; if far less, the machine or another thread delayed it.
"""

import asyncio
import time
from collections.abc import Callable

from headmix_server.core.observability.logging import get_logger

INTERVAL_SECONDS = 0.1
LOG_SECONDS = 10.0
"""At most one line per this many seconds; the next one sums up those that were omitted."""


class LoopMonitor:
    """Measures its own event loop until cancelled. `observe` gets every lag in seconds; any over `bound` is logged."""

    def __init__(
        self,
        observe: Callable[[float], None],
        *,
        bound: float,
        interval: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._observe = observe
        self._bound = bound
        self._interval = interval
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._log = get_logger("loop")
        self._logged_at: float | None = None
        self._unlogged = 0

    async def run(self) -> None:
        """Measure every `interval` seconds."""
        while True:
            due, computed = self._clock() + self._interval, self._cpu_clock()
            await asyncio.sleep(self._interval)
            self._record(max(0.0, self._clock() - due), self._cpu_clock() - computed)

    def _record(self, lag: float, computed: float) -> None:
        self._observe(lag)
        if lag < self._bound:
            return
        now = self._clock()
        if self._logged_at is not None and now - self._logged_at < LOG_SECONDS:
            self._unlogged += 1
            return
        self._log.warning(
            "the event loop was blocked",
            seconds=round(lag, 3),
            loop_cpu_seconds=round(computed, 3),
            not_logged=self._unlogged,
        )
        self._logged_at, self._unlogged = now, 0
