"""Reports of the engine become metrics: it knows digests only, the metrics want tenants and names.

Owns the moment to ask the catalog again, and what for: several reports come every second, and of a long catalog few
adapters are on the device or asked for.
"""

from collections.abc import Mapping

from headmix_server.catalog.catalog import Catalog
from headmix_server.core.messages import EngineReport
from headmix_server.core.metrics import Metrics

Names = Mapping[str, tuple[tuple[str, str], ...]]


class ReportObserver:
    """Hands the engine's reports to the metrics, with the names of the adapters they are about."""

    def __init__(self, catalog: Catalog, metrics: Metrics) -> None:
        self._catalog = catalog
        self._metrics = metrics
        self._names: Names = {}
        self._asked = frozenset[str]()
        self._resident = frozenset[str]()

    def __call__(self, report: EngineReport) -> None:
        """Take in one report."""
        if self._is_news(report):
            self._names = self._catalog.owners(self._spoken_of(report))
        self._metrics.observe_report(report, self._names)

    def _is_news(self, report: EngineReport) -> bool:
        """Whether the report may speak of names not known here: a digest is new, or what is resident changed."""
        if report.resident is not None:
            self._resident = frozenset(adapter.digest for adapter in report.resident)
            return True
        return any(digest not in self._asked for digest in (*report.running_adapters, *report.waiting_adapters))

    def _spoken_of(self, report: EngineReport) -> frozenset[str]:
        self._asked = self._resident.union(report.running_adapters, report.waiting_adapters)
        return self._asked
