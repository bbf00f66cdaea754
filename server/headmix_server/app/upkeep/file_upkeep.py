"""Periodic work on files: what has expired goes, and the metrics know what is stored."""

import time
from collections.abc import Callable

from headmix_server.core.observability.metrics import Metrics
from headmix_server.files.sweep import Sweep

COLLECT_SECONDS = 24 * 3600.0


class FileUpkeep:
    """Called every minute; once a day, and the first time, it also looks for bytes that no row knows."""

    def __init__(self, sweep: Sweep, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._sweep = sweep
        self._metrics = metrics
        self._clock = clock
        self._collect_at = clock()

    def __call__(self) -> None:
        """Do what is due.

        Raises:
            HeadmixServerError: the database or the store cannot be used now.
        """
        self._sweep.expire()
        self._metrics.observe_files(*self._sweep.totals())
        if self._clock() >= self._collect_at:
            self._sweep.collect()
            self._collect_at = self._clock() + COLLECT_SECONDS
