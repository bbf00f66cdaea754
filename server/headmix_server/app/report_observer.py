"""Reports of the engine become metrics: it knows digests only, the metrics want tenants and names.

Owns the moment to ask the catalog for names, and what for: several reports come every second, and of a long catalog few
adapters are on the device or asked for. The catalog is asked in a thread, after the report was taken in: so the
reader of reports never waits for the database, and where that is unavailable the names known so far stand.
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
    """Hands the engine's reports to the metrics, with the names of their adapters.

    Used on one event loop. Names that could not be read are asked for again after `retry_seconds`.
    """

    def __init__(self, catalog: Catalog, metrics: Metrics, *, retry_seconds: float = RETRY_SECONDS) -> None:
        self._catalog = catalog
        self._metrics = metrics
        self._retry_seconds = retry_seconds
        self._names: Names = {}
        self._as_of = metrics.deletions
        self._asked = frozenset[str]()
        self._wanted = frozenset[str]()  # digests of the last reports
        self._resident: Sequence[ResidentAdapter] = ()
        self._due = False
        self._looking: asyncio.Task[None] | None = None
        self._log = get_logger("metrics")

    def __call__(self, report: EngineReport) -> None:
        """Take in one report."""
        self._metrics.observe_report(report, self._names)
        asked_for = frozenset((*report.running_adapters, *report.waiting_adapters))
        if report.resident is not None:
            self._resident = report.resident
        self._wanted = asked_for.union(adapter.digest for adapter in self._resident)
        # Names change while their adapters are on the device; asking whenever that changes keeps up with them.
        if report.resident is not None or not asked_for <= self._asked:
            self._look_up()

    def engine_lost(self) -> None:
        """Forget what the engine that died has said; what it had on the device is nowhere now."""
        self._resident = ()
        self._metrics.engine_lost()

    async def close(self) -> None:
        """Ask no more."""
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
            except Exception as error:  # noqa: BLE001 - whatever it is, metrics go on and it is tried again
                self._log.warning("adapter names not read: metrics use the known ones", reason=str(error))
                self._tell()
                await asyncio.sleep(self._retry_seconds)
                self._due = True
            else:
                self._names, self._as_of = names, deletions
                self._due |= not self._tell()

    def _tell(self) -> bool:
        """Return what is resident, unless some names may be of adapters deleted since they were read."""
        if self._as_of != self._metrics.deletions:
            return False
        self._metrics.observe_residents(self._resident, self._names)
        return True
