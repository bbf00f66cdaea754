"""Every setting of the server, its default and its meaning; from flags, `HEADMIX_*` variables or defaults.

Read once by the command line and handed on; nothing reads the environment later, and nothing changes a setting.
The engine process gets the same object as JSON.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _given(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise ValueError("must not be empty")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("must not hold the character NUL")
    return value


def _or_none(value: object) -> object:
    """Take the word by which the documentation calls the default."""
    return None if value == "none" else _given(value)


def _at_home(path: Path | None) -> Path | None:
    try:
        return None if path is None else path.expanduser()
    except RuntimeError as error:
        raise ValueError("begins with the home folder of a user this machine does not have") from error


Count = Annotated[int, Field(le=2**31 - 1)]
"""A count, or a size in MiB: more than any machine has, and no number breaks on it."""
Places = Annotated[int, Field(le=2**16)]
"""A count of things for each of which something is kept from the start."""
Threads = Annotated[int, Field(le=1024)]
Limit = Annotated[int, Field(le=2**63 - 1)]
"""What a database can store."""
Seconds = Annotated[float, Field(le=365 * 24 * 3600.0)]
Text = Annotated[str, BeforeValidator(_given)]
Folder = Annotated[Path, BeforeValidator(_given), AfterValidator(_at_home)]
OptionalFolder = Annotated[Path | None, BeforeValidator(_or_none), AfterValidator(_at_home)]
Url = Annotated[SecretStr | None, BeforeValidator(_or_none)]
"""A URL that may hold a password. Its form is judged by `app.check_settings`, by those who know it."""


class Settings(BaseSettings):
    """All settings; each field's description is its documentation (docs/settings.md is checked against it)."""

    model_config = SettingsConfigDict(
        env_prefix="HEADMIX_", env_ignore_empty=True, frozen=True, extra="forbid", allow_inf_nan=False
    )

    base: Text = Field(
        "smollm2-135m-instruct", description="The base: an embedded name, a local folder, a GGUF file or a hub id."
    )
    host: Text = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one and prints it.")
    data_dir: Folder = Field(Path(".headmix"), description="Folder of the catalog, the artifacts and the admin key.")
    database: Url = Field(
        None,
        description="URL of the catalog's database, `postgresql://user:password@host/name`; `none` is an SQLite file "
        "in `data_dir`. Better a variable than a flag: others on the machine can read a command line.",
    )
    artifacts: Url = Field(
        None,
        description="URL of the bucket that keeps the artifacts, `s3://bucket/prefix` (any S3-compatible, with "
        "`?endpoint=https://host`), `gs://` or `az://`, credentials from the environment; `none` is a folder in "
        "`data_dir`.",
    )
    artifact_cache_mib: Count = Field(
        4096, ge=1, description="Artifacts of a bucket kept in `data_dir`, in MiB; those in use stay beyond it."
    )
    max_downloads: Places = Field(
        4, ge=1, description="Most artifacts downloaded from a bucket at once. Tenants take turns."
    )
    runner: Literal["torch", "fake"] = Field(
        "torch",
        description="What computes: `torch` is the real model; `fake` answers without one, for tests of clients.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the engine computes; `auto` takes a CUDA GPU where there is one."
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="What it computes in; `auto` is `float32` on the CPU and `bfloat16` on CUDA."
    )
    threads: Threads = Field(
        0,
        ge=0,
        description="Threads the engine computes with; 0 takes every core the process may use: its affinity, its CPU "
        "quota (cgroup) rounded up, and `OMP_NUM_THREADS`, whichever is least.",
    )
    quantize: Literal["none", "int8", "fp8"] = Field(
        "none",
        description="`int8` keeps the base in a quarter of the memory and computes faster; adapters stay exact. "
        "On a GPU `int8` and `fp8` halve it, by torchao.",
    )
    max_model_len: Count = Field(
        0, ge=0, description="Longest prompt plus completion in tokens; 0 takes the base's own limit."
    )
    max_batch_tokens: Count = Field(
        512, ge=1, description="Token budget of one step: decode tokens and prefill chunks together."
    )
    max_running: Places = Field(256, ge=1, description="Most sequences that run at once.")
    max_waiting: Count = Field(
        1024,
        ge=1,
        description="Most requests that wait; one more is answered 503 server_overloaded, or takes the place of one "
        "of the tenant that has most waiting.",
    )
    kv_cache_mib: Count = Field(
        0,
        ge=0,
        description="Memory for the key/value cache in MiB; 0 takes 2048 on the CPU, most of what is free on a GPU.",
    )
    block_size: Count = Field(16, ge=1, description="Tokens a key/value block holds.")
    prefix_cache: Literal["on", "off"] = Field(
        "on",
        description="`on` keeps what was computed of a sequence while there is room, for later requests of its tenant "
        "and adapter that begin alike.",
    )
    adapter_slots: Places = Field(
        32, ge=1, description="Adapters the device holds at once; more wait their turn in host memory or on disk."
    )
    adapter_memory_mib: Count = Field(
        0,
        ge=0,
        description="Memory for the adapters on the device, in MiB; on a GPU it is taken at start. 0 takes a quarter "
        "of what is free, on a GPU at most 4096.",
    )
    adapter_kernels: Literal["auto", "native", "torch"] = Field(
        "auto",
        description="What computes adapters on a CPU: `native` kernels, built by this machine's C++ compiler; "
        "`torch`'s own products, slower; `auto` takes the first where it can be had. A GPU has kernels of its own.",
    )
    host_adapters: Count = Field(256, ge=0, description="Adapters kept in host memory after they leave the device.")
    host_adapter_mib: Count = Field(
        0,
        ge=0,
        description="Memory for adapters in host memory, in MiB, those that load included; 0 takes a quarter of what "
        "this process may still use, its memory limit (cgroup) considered.",
    )
    loader_threads: Threads = Field(2, ge=1, description="Adapters that load at the same time.")
    max_adapter_rank: Count = Field(256, ge=1, description="Largest rank of any term of an uploaded adapter.")
    max_adapter_mib: Count = Field(256, ge=1, description="Largest artifact that may be uploaded, in MiB.")
    max_adapter_metadata_kib: int = Field(
        64, ge=1, le=512, description="Largest `training` metadata an uploaded adapter may bring, in KiB of JSON."
    )
    max_uploads: Places = Field(
        32,
        ge=1,
        description="Most uploads at once. Beyond it a tenant with fewer of them takes the place of one of the tenant "
        "with most.",
    )
    max_uploads_each: Places = Field(8, ge=1, description="Most uploads of one tenant at once; one more is 429.")
    conversion_seconds: Seconds = Field(
        300.0, gt=0, description="How long converting one uploaded PEFT LoRA may take, its wait for a turn not counted."
    )
    conversion_cpu_seconds: Count = Field(60, ge=1, description="CPU time one conversion may take, in seconds.")
    conversion_memory_mib: Count = Field(
        4096, ge=512, description="Memory one conversion may take beside the base's weights, in MiB (Linux)."
    )
    conversion_niceness: int = Field(
        5, ge=0, le=19, description="How far a conversion's priority is below the server's, as `nice` counts."
    )
    conversions_waiting: Count = Field(
        4,
        ge=0,
        description="PEFT LoRAs of one tenant that may wait to be converted; one more is 429. Tenants take turns.",
    )
    max_body_mib: Count = Field(8, ge=1, description="Largest JSON request body, in MiB.")
    max_bodies_mib: Count = Field(
        256,
        ge=1,
        description="Memory for all JSON bodies that are being received, in MiB. Beyond it the largest body of the "
        "tenant that holds most is refused with 503.",
    )
    body_seconds: Seconds = Field(
        30.0,
        gt=0,
        description="Seconds the server waits for a request body; every `min_body_rate` bytes that arrive give one "
        "second back. Then 408.",
    )
    min_body_rate: Count = Field(
        4096, ge=1, description="Bytes per second at which a body, uploads included, must arrive after `body_seconds`."
    )
    max_connections: Places = Field(
        4096,
        ge=1,
        description="Most open connections. Beyond it the connection that has waited longest without a request is "
        "closed; the limit of open files is raised to fit where the system allows.",
    )
    max_header_kib: Count = Field(
        32, ge=1, le=1024, description="Most KiB of a request's line and headers; more is answered 431."
    )
    max_headers: Count = Field(100, ge=1, description="Most headers of a request; more is answered 431.")
    header_seconds: Seconds = Field(
        20.0,
        gt=0,
        description="Seconds in which a request's headers must arrive; then 408, or the connection is closed.",
    )
    idle_seconds: Seconds = Field(
        75.0,
        gt=0,
        description="Seconds after which an idle connection is closed, or one whose client reads nothing of its "
        "answer.",
    )
    max_characters_per_token: Count = Field(
        64,
        ge=1,
        description="Longest text, in characters for each token of the context, on a base whose tokens can stand for "
        "any amount of text (WordPiece, Unigram). On others the vocabulary gives the bound.",
    )
    text_workers: Annotated[int, Field(le=64)] = Field(
        2,
        ge=1,
        description="Processes that tokenize long texts and parse large bodies. Tenants take turns; no tenant gets "
        "the last free one.",
    )
    text_worker_mib: Count = Field(
        2048, ge=64, description="Memory one request may take in a text worker, in MiB; more is 413."
    )
    text_queue_mib: Count = Field(
        256,
        ge=1,
        description="Texts that wait for a text worker, in MiB. Beyond that, the newest of the tenant with most "
        "waiting is refused with 503.",
    )
    split_special_tokens: bool = Field(
        False,
        description="Tokenize special tokens in clients' texts as plain text, so that a message cannot forge a chat "
        "turn. A request's `split_special_tokens` overrides it.",
    )
    max_labels: Count = Field(4096, ge=1, description="Most labels a classification head may have.")
    max_messages: Count = Field(
        2048, ge=1, description="Most messages in one conversation; each part of a message's content counts too."
    )
    max_metadata_bytes: Count = Field(16384, ge=0, description="Largest `metadata` of a request, in bytes of JSON.")
    max_inputs: Count = Field(256, ge=1, description="Most texts in one classification or embedding request.")
    max_choices: Count = Field(16, ge=1, description="Most completions (`n` times prompts) of one request.")
    keys: Literal["on", "off"] = Field(
        "on", description="`off` lets every request in as tenant `default` with every scope."
    )
    limit_requests_per_minute: Limit = Field(
        0, ge=0, description="Requests a tenant may make in a minute, unless its own limits say else; 0 is no limit."
    )
    limit_tokens_per_minute: Limit = Field(
        0, ge=0, description="Tokens a tenant may use in a minute, prompts and completions together; likewise."
    )
    limit_tokens_per_request: Limit = Field(
        0, ge=0, description="Tokens one request may ask for, prompts and completions together; likewise."
    )
    limit_concurrent_requests: Limit = Field(
        0, ge=0, description="Requests a tenant may have open at once in this server; likewise."
    )
    limit_adapters: Limit = Field(0, ge=0, description="Adapters (names) a tenant may have; likewise.")
    limit_stored_bytes: Limit = Field(0, ge=0, description="Bytes of artifacts a tenant may store; likewise.")
    limit_management_per_minute: Limit = Field(
        1200,
        ge=0,
        description="Requests per minute a tenant may make to all routes but those of the model, such as lists and "
        "uploads; 0 is no limit.",
    )
    limit_failed_keys_per_minute: Limit = Field(
        600,
        ge=0,
        description="Invalid API keys per minute that are looked up for one client address; 0 is no limit. Keys that "
        "were valid within the last ten minutes always pass.",
    )
    limit_refusals_per_second: Limit = Field(
        20,
        ge=0,
        description="Refused requests per second of one tenant that are answered at once, and answers to one address "
        "that shows no key; one more waits for its turn, at most 5 seconds. 0 is no limit.",
    )
    audit_days: Count = Field(
        365, ge=0, description="Days the audit is kept; older rows are removed. 0 keeps them for good."
    )
    audit_rows: Limit = Field(1_000_000, ge=0, description="Rows of the audit that are kept, the newest; 0 keeps all.")
    limits_storage: Url = Field(
        None,
        description="URL of a Redis that counts requests and tokens, so that a restart goes on with the counts, "
        "`redis://host:6379/0`; `none` counts in this process. A variable hides its password, as with `database`.",
    )
    preload: OptionalFolder = Field(
        None, description="Folder of `*.safetensors` loaded for tenant `default` at start, named by file."
    )
    metrics_series: Count = Field(1000, ge=1, description="Adapters with series of their own; more fold into `other`.")
    metrics_open: bool = Field(
        False, description="Show tenants and adapters in `/metrics` without a key too; for a private network."
    )
    engine_start_seconds: Seconds = Field(600.0, gt=0, description="How long the engine may take to become ready.")
    engine_stall_seconds: Seconds = Field(
        120.0, gt=0, description="Silence after which the engine counts as hung and is replaced."
    )
    engine_restarts: Count = Field(
        5, ge=0, description="Engine deaths within `engine_restart_window` that end the program."
    )
    engine_restart_window: Seconds = Field(300.0, gt=0, description="Seconds over which engine deaths are counted.")
    lease_seconds: Seconds = Field(
        10.0,
        ge=1,
        le=60,
        description="Length of the server's lease on the database: how long after a crash another server may have to "
        "wait before it can start, and how long new requests are served while the database is away.",
    )
    drain_seconds: Seconds = Field(30.0, ge=0, description="How long a stop waits for running requests.")
    loop_lag_warn_seconds: Seconds = Field(
        0.25, gt=0, description="Log a warning when the event loop is blocked for longer than this."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["auto", "console", "json"] = Field(
        "auto",
        description="`json` logs one JSON object per line, `console` lines for people; `auto` takes `console` where "
        "stderr is a terminal.",
    )
