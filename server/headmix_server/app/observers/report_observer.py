"""Turns the engine's reports into metrics: reports contain only digests, metrics need tenants and names.

Owns when the catalog is asked for names, and for which: several reports arrive per second, and only a few adapters of a
large catalog are loaded or requested. The catalog is read in a thread after a report was handled, so that reports never
wait for the database; while it is unavailable, the names known so far are used.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from headmix_server.catalog.catalog import Catalog
from headmix_server.core.messages import EngineReport, ResidentAdapter
from headmix_server.core.observability.logging import get_logger
from headmix_server.core.observability.metrics import Metrics

RETRY_SECONDS = 5.0

Names = Mapping[str, tuple[tuple[str, str], ...]]


class ReportObserver:
    """Passes the engine's reports to the metrics, with the names of their adapters.

    Used on one event loop. Names that could not be read are requested again after `retry_seconds`.
    """

    def __init__(self, catalog: Catalog, metrics: Metrics, *, retry_seconds: float = RETRY_SECONDS) -> None:
        self._catalog = catalog
        self._metrics = metrics
        self._retry_seconds = retry_seconds
        self._names: Names = {}
        self._as_of = metrics.deletions
        self._asked = frozenset[str]()
        self._wanted = frozenset[str]()  # digests in the last reports
        self._resident: Sequence[ResidentAdapter] = ()
        self._due = False
        self._looking: asyncio.Task[None] | None = None
        self._log = get_logger("metrics")

    def __call__(self, report: EngineReport) -> None:
        """Handle one report."""
        self._metrics.observe_report(report, self._names)
        asked_for = frozenset((*report.running_adapters, *report.waiting_adapters))
        if report.resident is not None:
            self._resident = report.resident
        self._wanted = asked_for.union(adapter.digest for adapter in self._resident)
        # Names change while adapters are on the device; reading them whenever the device's adapters change keeps up.
        if report.resident is not None or not asked_for <= self._asked:
            self._look_up()

    def engine_lost(self) -> None:
        """Discard what the dead engine reported; its adapters are no longer on any device."""
        self._resident = ()
        self._metrics.engine_lost()

    async def close(self) -> None:
        """Stop reading names."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    def _look_up(self) -> None:
        self._due = True
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_up_while_due())

    async def _look_up_while_due(self) -> None:
        while self._due:
            self._due = False
            deletions = self._metrics.deletions
            self._asked = self._wanted
            try:
                names = await asyncio.to_thread(self._catalog.owners, self._asked)
            except Exception as error:  # noqa: BLE001 - on any error, metrics go on and it is retried
                self._log.warning("adapter names not read: metrics use the known ones", reason=str(error))
                self._tell()
                await asyncio.sleep(self._retry_seconds)
                self._due = True
            else:
                self._names, self._as_of = names, deletions
                self._due |= not self._tell()

    def _tell(self) -> bool:
        """Update the metrics of resident adapters; return False if a deletion may have made the known names stale."""
        if self._as_of != self._metrics.deletions:
            return False
        self._metrics.observe_residents(self._resident, self._names)
        return True
