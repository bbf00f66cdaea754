"""What a worker counts. Its page for Prometheus is its own: a worker may run where no server does."""

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server


class WorkerMetrics:
    """All metrics of one worker. Safe to use from many threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._claimed = Counter("headmix_worker_jobs_claimed", "Jobs that the worker claimed.", registry=self.registry)
        self._ended = Counter(
            "headmix_worker_jobs_ended",
            "Jobs that the worker stopped working on, by their state then; `lost`: another worker has it.",
            ["state"],
            registry=self.registry,
        )
        self._renewed = Counter(
            "headmix_worker_claims_renewed", "Renewals of the worker's claims.", registry=self.registry
        )
        self._seconds = Counter(
            "headmix_worker_training_seconds", "Seconds that the worker spent on jobs.", registry=self.registry
        )
        self._queued = Gauge(
            "headmix_worker_jobs_queued",
            "Fine-tuning jobs in the queue, as the worker last saw.",
            registry=self.registry,
        )

    def serve(self, host: str, port: int) -> None:
        """Serve the page; raises OSError if the port is in use."""
        start_http_server(port, host, registry=self.registry)

    def claimed(self) -> None:
        """Count a job that was claimed."""
        self._claimed.inc()

    def ended(self, state: str) -> None:
        """Count a job that is no longer worked on."""
        self._ended.labels(state).inc()

    def worked(self, seconds: float) -> None:
        """Count a renewal and the seconds worked before it."""
        self._renewed.inc()
        self._seconds.inc(seconds)

    def queued(self, count: int) -> None:
        """Record the length of the queue."""
        self._queued.set(count)
