"""Related settings: the groups in which `headmix serve --help` shows them."""

from collections.abc import Mapping
from types import MappingProxyType

GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Base model": ("base", "device", "dtype", "quantize", "weights", "threads", "adapter_kernels", "runner"),
        "Server": ("host", "port", "keys", "drain_seconds", "loop_lag_warn_seconds", "log_level", "log_format"),
        "Data": (
            *("data_dir", "preload", "database", "lease_seconds", "artifacts", "artifact_cache_mib"),
            *("max_downloads", "audit_days", "audit_rows"),
        ),
        "Batching and cache": (
            *("max_model_len", "max_batch_tokens", "max_running", "max_waiting"),
            *("kv_cache_mib", "block_size", "prefix_cache", "speculative_tokens"),
        ),
        "Adapters": (
            *("adapter_slots", "adapter_memory_mib", "host_adapters", "host_adapter_mib", "loader_threads"),
            *("max_adapter_rank", "max_adapter_mib", "max_adapter_metadata_kib", "max_labels", "moderation_adapter"),
        ),
        "Uploads": (
            *("max_uploads", "max_uploads_each", "max_file_mib"),
            *("conversion_seconds", "conversion_cpu_seconds", "conversion_memory_mib"),
            *("conversion_niceness", "conversions_waiting"),
        ),
        "Requests": (
            *("max_body_mib", "max_bodies_mib", "body_seconds", "min_body_rate"),
            *("max_connections", "max_header_kib", "max_headers", "header_seconds", "idle_seconds"),
            *("max_messages", "max_metadata_bytes", "max_inputs", "max_choices", "split_special_tokens"),
            *("max_characters_per_token", "text_workers", "text_worker_mib", "text_queue_mib"),
        ),
        "Batches": ("batch_window", "max_batch_lines"),
        "Tenant limits": (
            *("limit_requests_per_minute", "limit_tokens_per_minute", "limit_tokens_per_request"),
            *("limit_concurrent_requests", "limit_adapters", "limit_stored_bytes", "limits_storage"),
            *("limit_training_jobs", "limit_training_tokens_per_day"),
            *("limit_management_per_minute", "limit_failed_keys_per_minute", "limit_refusals_per_second"),
        ),
        "Fine-tuning": (
            *("train", "train_threads", "train_cores", "train_memory_mib"),
            *("train_checkpoint_seconds", "train_claim_seconds", "train_attempts"),
        ),
        "Metrics": ("metrics_series", "metrics_open"),
        "Engine process": ("engine_start_seconds", "engine_stall_seconds", "engine_restarts", "engine_restart_window"),
    }
)
"""In the order of the help; every setting is in exactly one group."""

OTHER = "Other"


def group_of(name: str) -> str:
    """Return the group that a setting is shown in."""
    return next((group for group, names in GROUPS.items() if name in names), OTHER)


def in_help_order(names: Mapping[str, object]) -> tuple[str, ...]:
    """Return the settings' names group by group."""
    grouped = [name for group in GROUPS.values() for name in group if name in names]
    return (*grouped, *(name for name in names if group_of(name) == OTHER))
