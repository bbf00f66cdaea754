"""Every metric of the server, in a registry of its own; docs/metrics.md is checked against this file.

Owns names, labels, buckets and the bound on the number of series. Knows neither the engine nor HTTP: the API process
reports to it. Tenants and adapters come from clients, so series for them are limited (`SeriesBudget`), and
those of what is gone are removed. Safe to use from many threads.
"""

import itertools
import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric

from headmix_server.core.messages import EngineReport, ResidentAdapter
from headmix_server.core.observability.process_metrics import ProcessMetrics
from headmix_server.core.observability.series_budget import Owner, SeriesBudget
from headmix_server.core.observability.snapshot_gauge import SnapshotGauge
from headmix_server.core.types import Residency

# No adapter's name is empty, so this cannot be mistaken for one.
BASE_ALONE = ""

_LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_TOKEN_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0)
_STEPS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_LAGS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_POWERS_OF_TWO = tuple(float(2**exponent) for exponent in range(14))

LISTED_NAMES = 256
"""Names in one label of `vllm:lora_requests_info` at most: each tenant may have its own name for one adapter."""

_NAMING_LABELS = frozenset({"tenant", "adapter", "running_lora_adapters", "waiting_lora_adapters"})
"""Labels that reveal who is served; `Metrics.render` omits them without permission to see tenants."""


class Metrics:
    """All metrics of one server. `series` is how many (tenant, adapter) pairs have series of their own.

    `deletions` counts the adapters that were deleted, `processes` has what the operating system says.
    """

    def __init__(self, *, series: int, version: str, base: str, clock: Callable[[], float] = time.time) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._lock = threading.Lock()
        self._budget = SeriesBudget(series, self._remove_series)
        self._versions = SeriesBudget(series, self._remove_version_series)
        self.deletions = 0
        self.processes = ProcessMetrics()
        self._define_requests()
        self._define_engine()
        self._define_adapters()
        self._define_versions()
        self.build_info = Gauge(
            "headmix_build_info",
            "Always 1; the labels name the version and the base.",
            ["version", "base"],
            registry=self.registry,
        )
        self.build_info.labels(version, base).set(1)

    def _define_requests(self) -> None:
        own = self.registry
        self.requests = Counter(
            "headmix_requests_total",
            "Finished requests; the outcome is `ok`, `aborted` or an error code.",
            ["route", "tenant", "adapter", "outcome"],
            registry=own,
        )
        self.rate_limited = Counter(
            "headmix_rate_limited_total",
            "Requests refused by one of their tenant's limits, by limit.",
            ["tenant", "limit"],
            registry=own,
        )
        self.limits_fallbacks = Counter(
            "headmix_limits_fallbacks_total",
            "Failures of the limits storage; after each, this server counted on its own.",
            registry=own,
        )
        self.storage_failures = Counter(
            "headmix_storage_failures_total",
            "Failed attempts to reach the database or the artifact store: `database`, `artifacts`.",
            ["storage"],
            registry=own,
        )
        for storage in ("database", "artifacts"):
            self.storage_failures.labels(storage)
        self.connections = Gauge(
            "headmix_connections",
            "Open connections by state: serving a request, or waiting for one or its end.",
            ["state"],
            registry=own,
        )
        self.connections_closed = Counter(
            "headmix_connections_closed_total",
            "Connections closed to make room for others, or not accepted because there was none.",
            registry=own,
        )
        self.prompt_tokens = Counter(
            "headmix_prompt_tokens_total",
            "Prompt tokens the engine has processed for finished requests, including prefix cache hits.",
            ["tenant", "adapter"],
            registry=own,
        )
        self.generation_tokens = Counter(
            "headmix_generation_tokens_total",
            "Tokens the engine has generated for finished requests, whether or not they were read.",
            ["tenant", "adapter"],
            registry=own,
        )
        self.time_to_first_token = Histogram(
            "headmix_time_to_first_token_seconds",
            "From a generation request's arrival to its first token.",
            buckets=_LATENCIES,
            registry=own,
        )
        self.inter_token_latency = Histogram(
            "headmix_inter_token_latency_seconds",
            "Between two tokens of one completion.",
            buckets=_TOKEN_LATENCIES,
            registry=own,
        )
        self.e2e_request_latency = Histogram(
            "headmix_e2e_request_latency_seconds",
            "From a request's arrival to its end.",
            buckets=_LATENCIES,
            registry=own,
        )
        self.queue_time = Histogram(
            "headmix_queue_time_seconds",
            "From a request's arrival at the engine to its first step.",
            buckets=_LATENCIES,
            registry=own,
        )

        self.loop_lag = Histogram(
            "headmix_event_loop_lag_seconds",
            "How late a timer ran on the event loop of the process that answers HTTP.",
            buckets=_LAGS,
            registry=own,
        )

        self.text_job_seconds = Histogram(
            "headmix_text_job_seconds",
            "From the arrival of a long text, conversation or body at the text workers to its result.",
            buckets=_LATENCIES,
            registry=own,
        )

    def _define_engine(self) -> None:
        own = self.registry
        self.requests_running = Gauge("headmix_requests_running", "Sequences that take part in steps.", registry=own)
        self.requests_waiting = Gauge("headmix_requests_waiting", "Sequences that wait for admission.", registry=own)
        self.step_seconds = Histogram(
            "headmix_step_seconds",
            "Wall time of one step's phases: schedule, run, commit.",
            ["phase"],
            buckets=_STEPS,
            registry=own,
        )
        self.batch_tokens = Histogram(
            "headmix_batch_tokens", "Tokens computed in one step.", buckets=_POWERS_OF_TWO, registry=own
        )
        self.batch_distinct_adapters = Histogram(
            "headmix_batch_distinct_adapters",
            "Distinct adapters in one step, not counting the base.",
            buckets=(0.0, *_POWERS_OF_TWO[:10]),
            registry=own,
        )
        self.kv_cache_usage_ratio = Gauge(
            "headmix_kv_cache_usage_ratio", "Key/value blocks in use, from 0 to 1.", registry=own
        )
        self.prefix_cache_queries = Counter(
            "headmix_prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.", registry=own
        )
        self.prefix_cache_hits = Counter(
            "headmix_prefix_cache_hits_total", "Prompt tokens found in the prefix cache.", registry=own
        )
        self.numerical_errors = Counter(
            "headmix_numerical_errors_total",
            "Texts and completions that failed because their numbers were not finite (`numerical_error`).",
            registry=own,
        )
        self.engine_restarts = Counter(
            "headmix_engine_restarts_total", "Engine processes started to replace one that died.", registry=own
        )

    def _define_adapters(self) -> None:
        own = self.registry
        self.adapter_slots = Gauge(
            "headmix_adapter_slots", "Device slots by state: free, leased, idle, loading.", ["state"], registry=own
        )
        self.adapter_slots_pinned = Gauge(
            "headmix_adapter_slots_pinned",
            "Slots with a pinned adapter; each also counts as leased or idle.",
            registry=own,
        )
        self.adapter_memory_bytes = Gauge(
            "headmix_adapter_memory_bytes",
            "Memory used by adapters, by tier (device, host): on a CPU what is committed, in host memory including "
            "loads in progress.",
            ["tier"],
            registry=own,
        )
        self.adapter_memory_budget_bytes = Gauge(
            "headmix_adapter_memory_budget_bytes", "Memory that adapters may use, by tier.", ["tier"], registry=own
        )
        self.adapter_load_seconds = Histogram(
            "headmix_adapter_load_seconds",
            "Time to bring an adapter to the device, by the tier it came from.",
            ["source"],
            buckets=_LATENCIES,
            registry=own,
        )
        self.adapter_hits = Counter(
            "headmix_adapter_hits_total", "Adapter look-ups that found it in the tier.", ["tier"], registry=own
        )
        self.adapter_misses = Counter(
            "headmix_adapter_misses_total", "Adapter look-ups that did not find it in the tier.", ["tier"], registry=own
        )
        self.adapter_evictions = Counter(
            "headmix_adapter_evictions_total", "Adapters evicted from the tier.", ["tier"], registry=own
        )
        self.adapter_resident = SnapshotGauge(
            "headmix_adapter_resident",
            "Versions of the adapter whose fastest tier this is; no series if there are none.",
            ["tenant", "adapter", "tier"],
            registry=own,
        )
        self.lora_requests_info = SnapshotGauge(
            "vllm:lora_requests_info",
            "Unix time of the last report; the labels list the adapters in slots, and those waited for or loading.",
            ["max_lora", "running_lora_adapters", "waiting_lora_adapters"],
            registry=own,
        )

    def _define_versions(self) -> None:
        own, version = self.registry, ["tenant", "adapter", "version"]
        self.version_requests = Counter(
            "headmix_adapter_version_requests_total",
            "Finished requests to a name while it has a canary, by the version that answered.",
            [*version, "outcome"],
            registry=own,
        )
        self.version_generation_tokens = Counter(
            "headmix_adapter_version_generation_tokens_total",
            "Tokens generated by these requests.",
            version,
            registry=own,
        )
        self.version_request_seconds = Histogram(
            "headmix_adapter_version_request_seconds",
            "From arrival to end of these requests.",
            version,
            buckets=_LATENCIES,
            registry=own,
        )
        self.version_first_token_seconds = Histogram(
            "headmix_adapter_version_first_token_seconds",
            "From arrival to first token of these requests.",
            version,
            buckets=_LATENCIES,
            registry=own,
        )

    def request_finished(
        self,
        route: str,
        tenant: str,
        adapter: str | None,
        outcome: str,
        *,
        seconds: float,
        queue_seconds: float | None = None,
        prompt_tokens: int = 0,
        generation_tokens: int = 0,
        limit: str = "",
    ) -> None:
        """Count a request that ended, `seconds` after it arrived.

        `route` is a route's template and `outcome` `ok`, `aborted` or an error code. `adapter` is a name that was
        resolved, never one that a client merely asked for; None is the base alone. `tenant` is empty where no key
        was accepted. `limit` names the limit that refused the request, if one did.
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
        self.e2e_request_latency.observe(seconds)
        if queue_seconds is not None:
            self.queue_time.observe(queue_seconds)

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
        """Count a request that one of two versions answered that are being compared; times are from its arrival."""
        with self._lock:
            labels = (*self._versions.admit((tenant, adapter)), str(version))
            self.version_requests.labels(*labels, outcome).inc()
            self.version_generation_tokens.labels(*labels).inc(generation_tokens)
            self.version_request_seconds.labels(*labels).observe(seconds)
            if first_token_seconds is not None:
                self.version_first_token_seconds.labels(*labels).observe(first_token_seconds)

    def canary_started(self, tenant: str, adapter: str) -> None:
        """Remove what an earlier comparison of an adapter's versions left, for its tenant and all it is shared with."""
        with self._lock:
            for owner in self._versions.release(tenant, adapter):
                self._remove_version_series(owner)

    def watch_connections(self, num_open: Callable[[], int], num_waiting: Callable[[], int]) -> None:
        """Read at every scrape how many connections are open, and how many of them wait."""
        self.connections.labels("serving").set_function(lambda: max(0, num_open() - num_waiting()))
        self.connections.labels("waiting").set_function(num_waiting)

    def connection_closed(self) -> None:
        """Count a connection that was closed, or not let in, because there were too many."""
        self.connections_closed.inc()

    def storage_failed(self, storage: str) -> None:
        """Count a failed attempt to reach `database` or `artifacts`."""
        self.storage_failures.labels(storage).inc()

    def limits_fell_back(self) -> None:
        """Count a failure of the storage of limits."""
        self.limits_fallbacks.inc()

    def first_token(self, seconds: float) -> None:
        """Observe the time from a request's arrival to its first token."""
        self.time_to_first_token.observe(seconds)

    def inter_token(self, seconds: float) -> None:
        """Observe the time between two tokens of one completion."""
        self.inter_token_latency.observe(seconds)

    def observe_report(self, report: EngineReport, names: Mapping[str, Collection[Owner]]) -> None:
        """Take in what the engine reports, but for what is resident; `names` says who calls a digest what.

        See `Catalog.owners`; of an adapter without a name nothing is told.
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
        with self._lock:
            self._set_gauges(report)
            self._set_lora_info(report, names)

    def observe_residents(self, resident: Iterable[ResidentAdapter], names: Mapping[str, Collection[Owner]]) -> None:
        """Take in which adapters are where; `names` is as in `observe_report`."""
        with self._lock:
            self._set_resident((owner, adapter.tier) for adapter in resident for owner in names.get(adapter.digest, ()))

    def engine_lost(self) -> None:
        """Set what described the engine that died to nothing: it runs, holds and leases nothing any more."""
        nothing = EngineReport(
            running=0, waiting=0, kv_usage=0.0, slots_free=0, slots_leased=0, slots_idle=0, slots_loading=0
        )
        self.processes.engine_pid = None
        with self._lock:
            self._set_gauges(nothing)
            self.lora_requests_info.replace({})
            self._set_resident(())

    def engine_started(self, pid: int) -> None:
        """Note the engine's process."""
        self.processes.engine_pid = pid

    def engine_restarted(self) -> None:
        """Count an engine process started in place of one that died."""
        self.engine_restarts.inc()

    def adapter_deleted(self, tenant: str, adapter: str) -> None:
        """Remove the adapter's series, those of tenants it was shared with too; others may have their place."""
        with self._lock:
            self.deletions += 1
            for owner in self._budget.release(tenant, adapter):
                self._remove_series(owner)
        self.canary_started(tenant, adapter)

    def render(self, *, tenants: bool) -> tuple[bytes, str]:
        """Return the exposition and its content type; without `tenants`, no series that names a tenant or adapter.

        Takes no lock that requests take: each series is read as it is at the moment.
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
        # One series at a time: the lists are labels, so every report would otherwise leave one behind for ever.
        labels = (str(slots), ",".join(sorted(running)), ",".join(sorted(waiting)))
        self.lora_requests_info.replace({labels: self._clock()})

    def _set_resident(self, resident: Iterable[tuple[Owner, Residency]]) -> None:
        found = list(resident)
        for owner, _ in found:  # first all, since one that comes later may take another's place
            self._budget.admit(owner)
        counts: Tally[tuple[str, ...]] = Tally((*self._budget.admit(owner), tier.value) for owner, tier in found)
        self.adapter_resident.replace(counts)


@dataclass(frozen=True, slots=True)
class _Collected:
    """Metrics that were collected already, as what writes them wants them."""

    metrics: Sequence[Metric]

    def collect(self) -> Sequence[Metric]:
        return self.metrics


def _shown(registry: CollectorRegistry, *, tenants: bool) -> Iterator[Metric]:
    """Yield a registry's metrics without the `_created` samples, which double the series for no reader.

    Without `tenants` also without every metric that has a label in which clients' names can stand.
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
    """Return the names a router knows the adapters by: what clients send as `model`, which has no tenant in it.

    At most `LISTED_NAMES` of them: each adapter's first name, then the second ones, and so on, in the given order.
    """
    called = [[name for _, name in names.get(digest, ())] for digest in digests]
    turns = (name for turn in itertools.zip_longest(*called) for name in turn if name is not None and name not in but)
    return dict.fromkeys(itertools.islice(dict.fromkeys(turns), LISTED_NAMES)).keys()
