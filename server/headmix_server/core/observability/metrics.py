"""The server's counts and measurements, and the page that Prometheus reads.

Owns when a metric of `metric_definitions` changes, and the limit on the number of series. Knows neither the engine nor
HTTP: the API process reports to it. Tenants and adapters come from clients, so their series are limited
(`SeriesBudget`), and removed when an adapter is deleted. Safe to use from many threads.
"""

import itertools
import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import Metric

from headmix_server.core.messages import EngineReport, ResidentAdapter
from headmix_server.core.observability.metric_definitions import MetricDefinitions
from headmix_server.core.observability.process_metrics import ProcessMetrics
from headmix_server.core.observability.series_budget import Owner, SeriesBudget
from headmix_server.core.observability.snapshot_gauge import SnapshotGauge
from headmix_server.core.types import Residency

# No adapter's name is empty, so this cannot be mistaken for one.
BASE_ALONE = ""

LISTED_NAMES = 256
"""The most names in one label of `vllm:lora_requests_info`: each tenant may have its own name for one adapter."""

_NAMING_LABELS = frozenset({"tenant", "adapter", "running_lora_adapters", "waiting_lora_adapters"})
"""Labels that reveal tenants or adapters; `Metrics.render` omits them without permission to see tenants."""


class Metrics(MetricDefinitions):
    """All metrics of one server. `series` is the maximum number of (tenant, adapter) pairs with series of their own.

    `deletions` counts deleted adapters, `processes` has the operating system's metrics.
    """

    def __init__(self, *, series: int, version: str, base: str, clock: Callable[[], float] = time.time) -> None:
        super().__init__(version=version, base=base)
        self._clock = clock
        self._lock = threading.Lock()
        self._budget = SeriesBudget(series, self._remove_series)
        self._versions = SeriesBudget(series, self._remove_version_series)
        self.deletions = 0
        self.processes = ProcessMetrics()

    def request_finished(
        self,
        route: str,
        tenant: str,
        adapter: str | None,
        outcome: str,
        *,
        seconds: float | None,
        queue_seconds: float | None = None,
        prompt_tokens: int = 0,
        generation_tokens: int = 0,
        limit: str = "",
    ) -> None:
        """Count a request that ended, `seconds` after it arrived; None for a line of a batch, for which nobody waits.

        `route` is a route's template and `outcome` `ok`, `aborted` or an error code. `adapter` is a name that was
        resolved, never one that a client merely sent; None means the base alone. `tenant` is empty if no key was
        accepted. `limit` names the limit that refused the request, if one did.
        """
        with self._lock:
            owner = self._budget.admit((tenant, adapter if adapter is not None else BASE_ALONE))
            self.requests.labels(route, *owner, outcome).inc()
            if limit:
                self.rate_limited.labels(owner[0], limit).inc()
            if prompt_tokens:
                self.prompt_tokens.labels(*owner).inc(prompt_tokens)
            if generation_tokens:
                self.generation_tokens.labels(*owner).inc(generation_tokens)
        if seconds is not None:
            self.e2e_request_latency.observe(seconds)
        if queue_seconds is not None:
            self.queue_time.observe(queue_seconds)

    def batch_line(self, outcome: str) -> None:
        """Count an answered line of a batch; the outcome is `ok` or an error code."""
        self.batch_lines.labels(outcome).inc()

    def batch_ended(self, status: str) -> None:
        """Count a batch that ended."""
        self.batches.labels(status).inc()

    def version_answered(
        self,
        tenant: str,
        adapter: str,
        version: int,
        outcome: str,
        *,
        seconds: float,
        first_token_seconds: float | None,
        generation_tokens: int,
    ) -> None:
        """Count a request answered by one of two versions that are being compared; times are from its arrival."""
        with self._lock:
            labels = (*self._versions.admit((tenant, adapter)), str(version))
            self.version_requests.labels(*labels, outcome).inc()
            self.version_generation_tokens.labels(*labels).inc(generation_tokens)
            self.version_request_seconds.labels(*labels).observe(seconds)
            if first_token_seconds is not None:
                self.version_first_token_seconds.labels(*labels).observe(first_token_seconds)

    def canary_started(self, tenant: str, adapter: str) -> None:
        """Remove the series of an adapter's earlier comparison, for its tenant and those it is shared with."""
        with self._lock:
            for owner in self._versions.release(tenant, adapter):
                self._remove_version_series(owner)

    def watch_connections(self, num_open: Callable[[], int], num_waiting: Callable[[], int]) -> None:
        """Read at every scrape how many connections are open, and how many of them are waiting."""
        self.connections.labels("serving").set_function(lambda: max(0, num_open() - num_waiting()))
        self.connections.labels("waiting").set_function(num_waiting)

    def connection_closed(self) -> None:
        """Count a connection that was closed, or not admitted, because there were too many."""
        self.connections_closed.inc()

    def storage_failed(self, storage: str) -> None:
        """Count a failed attempt to reach `database` or `artifacts`."""
        self.storage_failures.labels(storage).inc()

    def observe_files(self, count: int, size_bytes: int) -> None:
        """Update how many files are stored, and their bytes."""
        self.files.set(count)
        self.file_bytes.set(size_bytes)

    def limits_fell_back(self) -> None:
        """Count a failure of the limits storage."""
        self.limits_fallbacks.inc()

    def first_token(self, seconds: float) -> None:
        """Observe the time from a request's arrival to its first token."""
        self.time_to_first_token.observe(seconds)

    def inter_token(self, seconds: float) -> None:
        """Observe the time between two tokens of one completion."""
        self.inter_token_latency.observe(seconds)

    def observe_report(self, report: EngineReport, names: Mapping[str, Collection[Owner]]) -> None:
        """Handle an engine report except for the resident adapters; `names` maps digests to their owners' names.

        See `Catalog.owners`; adapters without a name are omitted.
        """
        for step in report.steps:
            self.step_seconds.labels("schedule").observe(step.schedule_seconds)
            self.step_seconds.labels("run").observe(step.run_seconds)
            self.step_seconds.labels("commit").observe(step.commit_seconds)
            self.batch_tokens.observe(step.batch_tokens)
            self.batch_distinct_adapters.observe(step.distinct_adapters)
        for load in report.loads:
            self.adapter_load_seconds.labels(load.source.value).observe(load.seconds)
        _count(self.adapter_hits, report.hits)
        _count(self.adapter_misses, report.misses)
        _count(self.adapter_evictions, report.evictions)
        self.numerical_errors.inc(report.numerical_errors)
        self.prefix_cache_queries.inc(report.prefix_queries)
        self.prefix_cache_hits.inc(report.prefix_hits)
        self.drafted_tokens.inc(report.drafted_tokens)
        self.accepted_tokens.inc(report.accepted_tokens)
        with self._lock:
            self._set_gauges(report)
            self._set_lora_info(report, names)

    def observe_residents(self, resident: Iterable[ResidentAdapter], names: Mapping[str, Collection[Owner]]) -> None:
        """Update which adapters are in which tier; `names` is as in `observe_report`."""
        with self._lock:
            self._set_resident((owner, adapter.tier) for adapter in resident for owner in names.get(adapter.digest, ()))

    def engine_lost(self) -> None:
        """Reset the gauges of the engine that died: it no longer runs, holds or leases anything."""
        nothing = EngineReport(
            running=0, waiting=0, kv_usage=0.0, slots_free=0, slots_leased=0, slots_idle=0, slots_loading=0
        )
        self.processes.engine_pid = None
        with self._lock:
            self._set_gauges(nothing)
            self.lora_requests_info.replace({})
            self._set_resident(())

    def engine_started(self, pid: int) -> None:
        """Record the engine's process id."""
        self.processes.engine_pid = pid

    def engine_restarted(self) -> None:
        """Count an engine process started to replace one that died."""
        self.engine_restarts.inc()

    def jobs_counted(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Record how many jobs are unfinished, by kind and state."""
        self.jobs.replace({kind_and_state: float(count) for kind_and_state, count in counts.items()})

    def batch_lines_left(self, lines: Mapping[Literal["queued", "running"], int]) -> None:
        """Record how many lines have no answer yet, by the state of their batches."""
        self.batch_lines_unanswered.replace({(state,): float(count) for state, count in lines.items()})

    def tokens_trained(self, tokens: int) -> None:
        """Count tokens that fine-tuning jobs have read."""
        self.trained_tokens.inc(tokens)

    def training_worker_restarted(self) -> None:
        """Count a training worker that died."""
        self.training_worker_restarts.inc()

    def adapter_deleted(self, tenant: str, adapter: str) -> None:
        """Remove the adapter's series, including those of tenants it was shared with; others may take their place."""
        with self._lock:
            self.deletions += 1
            for owner in self._budget.release(tenant, adapter):
                self._remove_series(owner)
        self.canary_started(tenant, adapter)

    def render(self, *, tenants: bool) -> tuple[bytes, str]:
        """Return the exposition and its content type; without `tenants`, no series names a tenant or adapter.

        Takes no lock that requests take: each series is read as it currently is.
        """
        shown = _shown(self.registry, tenants=tenants)
        return generate_latest(_Collected([*shown, *self.processes.collect()])), CONTENT_TYPE_PLAIN_0_0_4

    def _remove_series(self, owner: Owner) -> None:
        _remove(owner, (self.requests, self.prompt_tokens, self.generation_tokens, self.adapter_resident))

    def _remove_version_series(self, owner: Owner) -> None:
        _remove(owner, (self.version_requests, self.version_generation_tokens))
        _remove(owner, (self.version_request_seconds, self.version_first_token_seconds))

    def _set_gauges(self, report: EngineReport) -> None:
        self.requests_running.set(report.running)
        self.requests_waiting.set(report.waiting)
        self.kv_cache_usage_ratio.set(report.kv_usage)
        self.adapter_slots.labels("free").set(report.slots_free)
        self.adapter_slots.labels("leased").set(report.slots_leased)
        self.adapter_slots.labels("idle").set(report.slots_idle)
        self.adapter_slots.labels("loading").set(report.slots_loading)
        self.adapter_slots_pinned.set(report.slots_pinned)
        self.adapter_memory_bytes.labels("device").set(report.device_adapter_bytes)
        self.adapter_memory_bytes.labels("host").set(report.host_adapter_bytes)
        self.adapter_memory_budget_bytes.labels("device").set(report.device_adapter_budget)
        self.adapter_memory_budget_bytes.labels("host").set(report.host_adapter_budget)

    def _set_lora_info(self, report: EngineReport, names: Mapping[str, Collection[Owner]]) -> None:
        slots = report.slots_free + report.slots_leased + report.slots_idle
        running = _listed(report.running_adapters, names)
        waiting = _listed(report.waiting_adapters, names, but=running)
        # Only one series at a time: the lists are labels, so every report would otherwise leave one behind forever.
        labels = (str(slots), ",".join(sorted(running)), ",".join(sorted(waiting)))
        self.lora_requests_info.replace({labels: self._clock()})

    def _set_resident(self, resident: Iterable[tuple[Owner, Residency]]) -> None:
        found = list(resident)
        for owner, _ in found:  # admit all first, since a later one may take another's place
            self._budget.admit(owner)
        counts: Tally[tuple[str, ...]] = Tally((*self._budget.admit(owner), tier.value) for owner, tier in found)
        self.adapter_resident.replace(counts)


@dataclass(frozen=True, slots=True)
class _Collected:
    """Metrics that were already collected, in the form that the exporter expects."""

    metrics: Sequence[Metric]

    def collect(self) -> Sequence[Metric]:
        return self.metrics


def _shown(registry: CollectorRegistry, *, tenants: bool) -> Iterator[Metric]:
    """Yield a registry's metrics without the `_created` samples, which double the series and are not used.

    Without `tenants`, metrics with labels that may contain clients' names are omitted as well.
    """
    for metric in registry.collect():
        samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
        if tenants or not any(_NAMING_LABELS & sample.labels.keys() for sample in samples):
            metric.samples = samples
            yield metric


def _remove(owner: Owner, metrics: Iterable[Counter | Histogram | SnapshotGauge]) -> None:
    for metric in metrics:
        metric.remove_by_labels({"tenant": owner[0], "adapter": owner[1]})


def _count(counter: Counter, by_tier: Mapping[str, int]) -> None:
    for tier, count in by_tier.items():
        counter.labels(tier).inc(count)


def _listed(
    digests: Iterable[str], names: Mapping[str, Collection[Owner]], *, but: Collection[str] = ()
) -> Collection[str]:
    """Return the names by which a router knows the adapters: those clients send as `model`, without a tenant.

    At most `LISTED_NAMES`: each adapter's first name, then the second ones, and so on, in the given order.
    """
    called = [[name for _, name in names.get(digest, ())] for digest in digests]
    turns = (name for turn in itertools.zip_longest(*called) for name in turn if name is not None and name not in but)
    return dict.fromkeys(itertools.islice(dict.fromkeys(turns), LISTED_NAMES)).keys()
