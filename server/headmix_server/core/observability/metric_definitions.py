"""Every metric of the server: names, help texts, labels and buckets; docs/metrics.md is checked against this file.

Does not know when a metric changes: that is in `metrics`.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from headmix_server.core.observability.snapshot_gauge import SnapshotGauge

_LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_TOKEN_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0)
_STEPS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_LAGS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_POWERS_OF_TWO = tuple(float(2**exponent) for exponent in range(14))


class MetricDefinitions:
    """The metrics, each an attribute, in their own registry."""

    def __init__(self, *, version: str, base: str) -> None:
        self.registry = CollectorRegistry()
        self._define_requests()
        self._define_engine()
        self._define_adapters()
        self._define_versions()
        self._define_jobs()
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
        self.batch_lines = Counter(
            "headmix_batch_lines_total",
            "Lines of batches that were answered; the outcome is `ok` or an error code.",
            ["outcome"],
            registry=own,
        )
        self.batches = Counter(
            "headmix_batches_total",
            "Batches that ended: `completed`, `failed`, `expired`, `cancelled`.",
            ["status"],
            registry=own,
        )
        for status in ("completed", "failed", "expired", "cancelled"):
            self.batches.labels(status)
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
        self.files = Gauge("headmix_files", "Files of all tenants.", registry=own)
        self.file_bytes = Gauge(
            "headmix_file_bytes",
            "Bytes of all tenants' files, each counted once however many files have it.",
            registry=own,
        )
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
        self.drafted_tokens = Counter(
            "headmix_drafted_tokens_total", "Tokens guessed ahead of a completion (speculation).", registry=own
        )
        self.accepted_tokens = Counter(
            "headmix_accepted_tokens_total", "Tokens guessed ahead that were right.", registry=own
        )
        self.numerical_errors = Counter(
            "headmix_numerical_errors_total",
            "Texts and completions that failed because their numbers were not finite (`numerical_error`).",
            registry=own,
        )
        self.engine_restarts = Counter(
            "headmix_engine_restarts_total", "Engine processes started to replace one that died.", registry=own
        )

    def _define_jobs(self) -> None:
        own = self.registry
        self.jobs = SnapshotGauge("headmix_jobs", "Unfinished jobs.", ["kind", "state"], registry=own)
        self.batch_lines_unanswered = SnapshotGauge(
            "headmix_batch_lines_unanswered",
            "Lines without an answer, by their batch's state: `queued`, `running`.",
            ["state"],
            registry=own,
        )
        self.trained_tokens = Counter(
            "headmix_trained_tokens_total",
            "Tokens that fine-tuning jobs have read, on any worker, each once per epoch.",
            registry=own,
        )
        self.training_worker_restarts = Counter(
            "headmix_training_worker_restarts_total",
            "Training workers of this server that died and were replaced.",
            registry=own,
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
