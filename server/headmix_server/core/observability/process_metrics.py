"""The operating system's metrics of the server's processes, under the usual names of Prometheus clients.

`process_*` is the process that serves HTTP, `headmix_engine_process_*` the engine's. Read from /proc at each scrape.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import Metric

from headmix_server.core.observability.logging import get_logger

ENGINE = "headmix_engine"


class ProcessMetrics:
    """The metrics of both processes; `engine_pid` is None while there is no engine."""

    def __init__(self) -> None:
        self.engine_pid: int | None = None
        self._registry = CollectorRegistry()
        PlatformCollector(registry=self._registry)
        ProcessCollector(registry=self._registry)
        # There is no process 0, so without an engine there are no series.
        ProcessCollector(namespace=ENGINE, pid=lambda: self.engine_pid or 0, registry=self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield what can be read; a process may end in the meantime."""
        try:
            yield from self._registry.collect()
        except (OSError, ValueError) as error:
            get_logger("metrics").warning("process metrics not read", reason=str(error))
