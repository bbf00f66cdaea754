"""Every setting of the server, its default and its meaning; from flags, `HEADMIX_*` variables or defaults.

Read once by the command line and passed on; nothing reads the environment later, and no setting changes. The engine
process gets the same object as JSON.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from headmix_server.core.settings.values import (
    Count,
    Folder,
    Limit,
    OptionalFolder,
    OptionalText,
    Places,
    Seconds,
    Text,
    Threads,
    Train,
    Url,
)


class Settings(BaseSettings):
    """All settings; each field's description is its documentation (docs/settings.md is checked against it)."""

    model_config = SettingsConfigDict(
        env_prefix="HEADMIX_", env_ignore_empty=True, frozen=True, extra="forbid", allow_inf_nan=False
    )

    base: Text = Field(
        "smollm2-135m-instruct",
        description="The base model: an embedded name, a local folder, a GGUF file or a hub id.",
    )
    host: Text = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one and prints it.")
    data_dir: Folder = Field(Path(".headmix"), description="Folder for the catalog, the artifacts and the admin key.")
    database: Url = Field(
        None,
        description="URL of the catalog's database, `postgresql://user:password@host/name`; `none` is an "
        "SQLite file in `--data-dir`. Prefer the environment variable: other users can see "
        "command-line flags.",
    )
    artifacts: Url = Field(
        None,
        description="URL of the bucket for artifacts: `s3://bucket/prefix` (any S3-compatible store, with "
        "`?endpoint=https://host`), `gs://` or `az://`. Credentials come from the environment. "
        "`none` is a folder in `--data-dir`.",
    )
    artifact_cache_mib: Count = Field(
        4096,
        ge=1,
        description="Size of the local cache for artifacts of a bucket, in MiB. Artifacts in use may exceed it.",
    )
    max_downloads: Places = Field(
        4, ge=1, description="Maximum concurrent downloads from a bucket. Tenants take turns."
    )
    runner: Literal["torch", "fake"] = Field(
        "torch",
        description="`torch` runs the model; `fake` returns made-up answers without one, for testing clients.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the engine computes; `auto` uses a CUDA GPU if there is one."
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Number format of the computation; `auto` is `float32` on the CPU and `bfloat16` on CUDA. On the "
        "CPU `bfloat16` is for the base's matrices alone: their inputs are rounded to it, everything else, adapters "
        "and the key/value cache included, stays in float32.",
    )
    threads: Threads = Field(
        0,
        ge=0,
        description="Threads of the engine; 0 uses every core the process may use: the least of its affinity, "
        "its CPU quota (cgroup) rounded up, and `OMP_NUM_THREADS`.",
    )
    quantize: Literal["none", "int8", "fp8"] = Field(
        "none",
        description="`int8` stores the base in a quarter of the memory and computes faster; adapters stay "
        "exact. On a GPU `int8` and `fp8` halve the memory, through torchao.",
    )
    weights: Literal["auto", "stored", "float32"] = Field(
        "auto",
        description="How the CPU keeps the base's weights: `stored` as the checkpoint has them (GGUF's blocks of 4 to "
        "8 bits, bfloat16, float16), unpacked only in the products: the same results from less memory, and faster. "
        "`float32` unpacks them at start. `auto` uses `stored` where the checkpoint and the machine allow it.",
    )
    max_model_len: Count = Field(
        0, ge=0, description="Maximum tokens of prompt plus completion; 0 uses the base's own limit."
    )
    max_batch_tokens: Count = Field(
        512, ge=1, description="Token budget of one step, decode tokens and prefill chunks together."
    )
    max_running: Places = Field(256, ge=1, description="Maximum sequences running at once.")
    max_waiting: Count = Field(
        1024,
        ge=1,
        description="Maximum waiting requests. When the queue is full, a new request gets 503 "
        "server_overloaded or displaces a request of the tenant that has most waiting.",
    )
    kv_cache_mib: Count = Field(
        0,
        ge=0,
        description="Memory for the key/value cache, in MiB; 0 uses 2048 on the CPU and most of the free "
        "memory on a GPU.",
    )
    block_size: Count = Field(16, ge=1, description="Tokens per block of the key/value cache.")
    prefix_cache: Literal["on", "off"] = Field(
        "on",
        description="`on` keeps computed prefixes while there is room, for later requests of the same tenant "
        "and adapter that begin alike.",
    )
    speculative_tokens: Annotated[int, Field(le=64)] = Field(
        8,
        ge=0,
        description="Maximum tokens guessed ahead for a completion in one step, by looking up its last tokens in its "
        "own prompt and output or from its grammar, while at most 8 sequences run. The sampler verifies each guess, "
        "so answers are those without, up to rounding. 0 turns it off. It is off on a GPU, whose decode steps are "
        "captured.",
    )
    adapter_slots: Places = Field(
        32, ge=1, description="Adapters on the device at once; others wait in host memory or on disk."
    )
    adapter_memory_mib: Count = Field(
        0,
        ge=0,
        description="Memory for adapters on the device, in MiB; on a GPU it is allocated at start. 0 uses a "
        "quarter of the free memory, on a GPU at most 4096.",
    )
    adapter_kernels: Literal["auto", "native", "torch"] = Field(
        "auto",
        description="How the CPU computes adapters: `native` kernels, from the wheel or built with this machine's "
        "C++ compiler, or `torch`, which is slower; `auto` uses native kernels if it has them or can build them. "
        "A GPU has its own kernels.",
    )
    host_adapters: Count = Field(256, ge=0, description="Adapters kept in host memory after they leave the device.")
    host_adapter_mib: Count = Field(
        0,
        ge=0,
        description="Memory for adapters in host memory, loading ones included, in MiB; 0 uses a quarter of "
        "what the process may still allocate, its memory limit (cgroup) included.",
    )
    loader_threads: Threads = Field(2, ge=1, description="Adapters that load at the same time.")
    max_adapter_rank: Count = Field(
        256, ge=1, description="Maximum rank of any term of an uploaded adapter; gate_up may have twice that."
    )
    max_adapter_mib: Count = Field(256, ge=1, description="Maximum size of an uploaded artifact, in MiB.")
    max_adapter_metadata_kib: int = Field(
        64, ge=1, le=512, description="Maximum size of an uploaded adapter's `training` metadata, in KiB of JSON."
    )
    max_uploads: Places = Field(
        32,
        ge=1,
        description="Maximum concurrent uploads. Beyond it, a tenant with fewer uploads displaces one of the "
        "tenant with most.",
    )
    max_uploads_each: Places = Field(8, ge=1, description="Maximum concurrent uploads per tenant; more get 429.")
    max_file_mib: Count = Field(512, ge=1, description="Maximum size of a file, uploaded at once or in parts, in MiB.")
    conversion_seconds: Seconds = Field(
        300.0, gt=0, description="Time limit for converting an uploaded PEFT LoRA, not counting its wait for a turn."
    )
    conversion_cpu_seconds: Count = Field(60, ge=1, description="CPU time limit of a conversion, in seconds.")
    conversion_memory_mib: Count = Field(
        4096, ge=512, description="Memory limit of a conversion in addition to the base's weights, in MiB (Linux)."
    )
    conversion_niceness: int = Field(5, ge=0, le=19, description="Niceness of a conversion relative to the server.")
    conversions_waiting: Count = Field(
        4,
        ge=0,
        description="Maximum PEFT LoRAs per tenant waiting to be converted; more get 429. Tenants take turns.",
    )
    max_body_mib: Count = Field(8, ge=1, description="Maximum JSON request body, in MiB.")
    max_bodies_mib: Count = Field(
        256,
        ge=1,
        description="Memory for all JSON bodies being received, in MiB. Beyond it, the largest body of the "
        "tenant that holds most is refused with 503.",
    )
    body_seconds: Seconds = Field(
        30.0,
        gt=0,
        description="Seconds the server waits for a request body; every `--min-body-rate` bytes that arrive "
        "add one second. Then 408.",
    )
    min_body_rate: Count = Field(
        4096,
        ge=1,
        description="Bytes per second at which a body, uploads included, must arrive after `--body-seconds`.",
    )
    batch_window: Places = Field(
        64,
        ge=1,
        description="Lines of batches that are open at once, of all batches together. They are computed where other "
        "requests leave room.",
    )
    max_batch_lines: Count = Field(50_000, ge=1, description="Maximum lines of a batch's input file.")
    max_connections: Places = Field(
        4096,
        ge=1,
        description="Maximum open connections. Beyond it, the connection that has waited longest without a "
        "request is closed. The limit of open files is raised to fit if the system allows it.",
    )
    max_header_kib: Count = Field(
        32, ge=1, le=1024, description="Maximum size of a request's line and headers, in KiB; more gets 431."
    )
    max_headers: Count = Field(100, ge=1, description="Maximum headers per request; more gets 431.")
    header_seconds: Seconds = Field(
        20.0,
        gt=0,
        description="Seconds in which a request's headers must arrive; then 408, or the connection is closed.",
    )
    idle_seconds: Seconds = Field(
        75.0,
        gt=0,
        description="Seconds after which an idle connection is closed, or one whose client doesn't read its answer.",
    )
    max_characters_per_token: Count = Field(
        64,
        ge=1,
        description="Maximum text length, in characters per token of the context, for bases whose tokens can "
        "stand for any amount of text (WordPiece, Unigram). For others the vocabulary gives the "
        "bound.",
    )
    text_workers: Annotated[int, Field(le=64)] = Field(
        2,
        ge=1,
        description="Processes that tokenize long texts and parse large bodies. Tenants take turns; no tenant "
        "gets the last free one.",
    )
    text_worker_mib: Count = Field(
        2048, ge=64, description="Maximum memory per request in a text worker, in MiB; more gets 413."
    )
    text_queue_mib: Count = Field(
        256,
        ge=1,
        description="Maximum texts waiting for a text worker, in MiB. Beyond it, the newest text of the "
        "tenant with most waiting is refused with 503.",
    )
    split_special_tokens: bool = Field(
        False,
        description="Tokenize special tokens in clients' texts as plain text, so that a message cannot forge "
        "a chat turn. `split_special_tokens` in a request overrides it.",
    )
    moderation_adapter: OptionalText = Field(
        None,
        description="The adapter that answers `/v1/moderations` for every tenant: a multi-label classifier as "
        "`owner/name`, or as `name` if tenant `default` owns it. With `none`, requests must name one themselves.",
    )
    max_labels: Count = Field(4096, ge=1, description="Maximum labels of a classification head.")
    max_messages: Count = Field(
        2048, ge=1, description="Maximum messages per conversation; each part of a message's content counts as well."
    )
    max_metadata_bytes: Count = Field(
        16384, ge=0, description="Maximum size of a request's `metadata`, in bytes of JSON."
    )
    max_inputs: Count = Field(256, ge=1, description="Maximum texts per classification or embedding request.")
    max_choices: Count = Field(16, ge=1, description="Maximum completions per request (`n` times prompts).")
    keys: Literal["on", "off"] = Field(
        "on", description="`off` admits every request as tenant `default` with every scope."
    )
    limit_requests_per_minute: Limit = Field(
        0, ge=0, description="Maximum requests per minute and tenant; 0 means no limit. Per-tenant limits override it."
    )
    limit_tokens_per_minute: Limit = Field(
        0,
        ge=0,
        description="Maximum tokens per minute and tenant, prompts and completions together; 0 means no "
        "limit. Per-tenant limits override it.",
    )
    limit_tokens_per_request: Limit = Field(
        0,
        ge=0,
        description="Maximum tokens per request, prompts and completions together; 0 means no limit. "
        "Per-tenant limits override it.",
    )
    limit_concurrent_requests: Limit = Field(
        0,
        ge=0,
        description="Maximum open requests per tenant on this server; 0 means no limit. Per-tenant limits override it.",
    )
    limit_adapters: Limit = Field(
        0, ge=0, description="Maximum adapter names per tenant; 0 means no limit. Per-tenant limits override it."
    )
    limit_stored_bytes: Limit = Field(
        0,
        ge=0,
        description="Maximum bytes per tenant of artifacts, files and what unfinished jobs hold; 0 means no limit. "
        "Per-tenant limits override it.",
    )
    limit_training_jobs: Limit = Field(
        0,
        ge=0,
        description="Maximum unfinished fine-tuning jobs per tenant; 0 means no limit. Per-tenant limits override it.",
    )
    limit_training_tokens_per_day: Limit = Field(
        0,
        ge=0,
        description="Maximum tokens per UTC day and tenant that fine-tuning jobs read, each once per epoch; 0 means "
        "no limit. Per-tenant limits override it.",
    )
    limit_management_per_minute: Limit = Field(
        1200,
        ge=0,
        description="Maximum requests per minute and tenant to all routes that don't run the model, such as "
        "lists and uploads; 0 means no limit.",
    )
    limit_failed_keys_per_minute: Limit = Field(
        600,
        ge=0,
        description="Invalid API keys per minute that are looked up for one client address; 0 means no limit. "
        "Keys that were valid within the last ten minutes always pass.",
    )
    limit_refusals_per_second: Limit = Field(
        20,
        ge=0,
        description="Refusals per second that are answered at once, per tenant, and per client address "
        "without a key. Further ones wait for their turn, at most 5 seconds. 0 means no limit.",
    )
    audit_days: Count = Field(365, ge=0, description="Days to keep audit rows; 0 keeps them forever.")
    audit_rows: Limit = Field(
        1_000_000, ge=0, description="Maximum audit rows; the oldest are removed. 0 means no limit."
    )
    limits_storage: Url = Field(
        None,
        description="URL of a Redis that counts requests and tokens, `redis://host:6379/0`, so that counts "
        "survive a restart; `none` counts in this process. Prefer the environment variable, as "
        "with `--database`.",
    )
    preload: OptionalFolder = Field(
        None, description="Folder of `*.safetensors` to load for tenant `default` at start, named by file."
    )
    metrics_series: Count = Field(
        1000, ge=1, description="Maximum adapters with their own metric series; others are counted as `other`."
    )
    metrics_open: bool = Field(
        False, description="Show tenants and adapters in `/metrics` without a key; for private networks."
    )
    train: Train = Field(
        "idle",
        description="Whether this server also trains: `here` trains fine-tuning jobs beside its requests, at the "
        "lowest priority; `idle` only while no client waits for a request (batches don't count); `off` leaves them to "
        "`headmix train-worker`.",
    )
    train_threads: Threads = Field(
        0,
        ge=0,
        description="Threads of a training; 0 uses one beside a server, and every core on a machine of its own. A job "
        "keeps the number it began with, so that its result does not depend on who continues it.",
    )
    train_cores: OptionalText = Field(
        None, description="Cores that a training may run on, such as `6,7` or `4-7`; `none` means all (Linux)."
    )
    train_memory_mib: Count = Field(
        0, ge=0, description="Maximum memory a training may allocate, in MiB; 0 means no limit."
    )
    train_checkpoint_seconds: Seconds = Field(
        60.0, gt=0, description="How often a training keeps a checkpoint: at most this much is lost with a machine."
    )
    train_claim_seconds: Seconds = Field(
        30.0,
        ge=2,
        le=600,
        description="How long a worker may be silent before another takes over its job.",
    )
    train_attempts: Count = Field(
        3, ge=1, description="Attempts in a row without a new checkpoint after which a job fails."
    )
    engine_start_seconds: Seconds = Field(600.0, gt=0, description="Time limit for the engine to become ready.")
    engine_stall_seconds: Seconds = Field(
        120.0, gt=0, description="Silence after which the engine counts as hung and is replaced."
    )
    engine_restarts: Count = Field(
        5, ge=0, description="Engine deaths within `--engine-restart-window` after which the program ends."
    )
    engine_restart_window: Seconds = Field(300.0, gt=0, description="Seconds over which engine deaths are counted.")
    lease_seconds: Seconds = Field(
        10.0,
        ge=1,
        le=60,
        description="Length of the server's lease on the database: how long another server may have to wait "
        "after a crash before it can start, and how long new requests are served while the "
        "database is unavailable.",
    )
    drain_seconds: Seconds = Field(30.0, ge=0, description="How long a stop waits for running requests.")
    loop_lag_warn_seconds: Seconds = Field(
        0.25, gt=0, description="Log a warning when the event loop is blocked for longer than this."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")
    log_format: Literal["auto", "console", "json"] = Field(
        "auto",
        description="`json` logs one JSON object per line, `console` readable lines; `auto` uses `console` if "
        "stderr is a terminal.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read flags and variables alone: looking for values in files that are not there takes as long again."""
        return init_settings, env_settings
