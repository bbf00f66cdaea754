"""Every message between the API process and the engine process, and their encoding (msgpack over ZeroMQ).

Each request gets exactly one terminal message: the `TokenOutput` with a finish reason, one `Classified`, one
`Embedded`, or one `Failed`. Nothing else may end it, and nothing may follow it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from headmix_server.core.types import (
    AdapterRef,
    EmbeddingParams,
    FinishReason,
    Frozen,
    Residency,
    SamplingParams,
    ScaledAdapter,
    TokenCounts,
    TokenLogprob,
)


class Message(Frozen, frozen=True, tag=True, omit_defaults=True):
    """The base of all messages; a message's tag is its class name."""


# --- to the engine -----------------------------------------------------------------------------------------------


class Generate(Message, frozen=True):
    """Continue `prompt` (token ids) with the adapter, or with the base alone if `adapter` is None.

    In all three kinds of requests, `weight` is the tenant's share relative to others; the last one sent applies.
    `scale` multiplies the adapter's terms, and the terms of the adapters `beside` it, each with its own scale, are
    added to them. Vocabulary and head are the adapter's alone. A `background` request is computed where requests
    without it leave room.
    """

    request_id: str
    tenant: str
    prompt: list[int]
    adapter: AdapterRef | None
    sampling: SamplingParams
    weight: float = 1.0
    scale: float = 1.0
    beside: tuple[ScaledAdapter, ...] = ()
    background: bool = False


class Classify(Message, frozen=True):
    """Classify one text or pair of texts (token ids) with the adapter's head; `second`: see `ClassificationParams`."""

    request_id: str
    tenant: str
    prompt: list[int]
    adapter: AdapterRef
    weight: float = 1.0
    scale: float = 1.0
    beside: tuple[ScaledAdapter, ...] = ()
    second: int = 0
    background: bool = False


class Embed(Message, frozen=True):
    """Compute the vector of one text (token ids), with the adapter, or with the base alone if it is None."""

    request_id: str
    tenant: str
    prompt: list[int]
    adapter: AdapterRef | None
    params: EmbeddingParams
    weight: float = 1.0
    scale: float = 1.0
    beside: tuple[ScaledAdapter, ...] = ()
    background: bool = False


class Abort(Message, frozen=True):
    """The client has left or has all it asked for: stop, free everything, and answer only with `Aborted`."""

    request_id: str


class LoadAdapter(Message, frozen=True):
    """Load an adapter onto the device ahead of requests; answered by `AdapterLoaded` or `Failed`.

    `pin` keeps it there until `UnpinAdapter` or `ForgetAdapter`.
    """

    request_id: str
    adapter: AdapterRef
    pin: bool = False


class UnpinAdapter(Message, frozen=True):
    """End a tenant's pin: unless another tenant has pinned the adapter, it may be evicted when others need its slot."""

    digest: str
    tenant: str


class ForgetAdapter(Message, frozen=True):
    """No name refers to this digest any more: drop it from every tier once its last lease is released."""

    digest: str


class Shutdown(Message, frozen=True):
    """Stop without finishing anything: fail open requests and exit with status 0."""


Request = Generate | Classify | Embed
"""The requests that become sequences."""

ToEngine = Request | Abort | LoadAdapter | UnpinAdapter | ForgetAdapter | Shutdown

# --- from the engine ---------------------------------------------------------------------------------------------


class EngineReady(Message, frozen=True):
    """The base is loaded and steps can run.

    The bytes are the memory budgets for adapters, 0 if there is none; `adapter_number_bytes` is the width of adapters'
    numbers on the device, 0 if they are kept as stored.
    """

    pid: int
    max_model_len: int
    kv_blocks: int
    block_size: int
    adapter_slots: int
    device_adapter_bytes: int = 0
    host_adapter_bytes: int = 0
    adapter_number_bytes: int = 0


class EngineRefused(Message, frozen=True):
    """The engine cannot start with these settings or this base, however often it is tried; it exits."""

    reason: str


class TokenOutput(Message, frozen=True):
    """The tokens a request gained in one step; terminal if `finish_reason` is set.

    `logprobs`, if requested, is parallel to `tokens`. `prompt_logprobs` (once, with the first token) has one entry for
    each prompt token except the first. `cached_tokens` (also once) counts the prompt's tokens that were found in the
    cache.
    """

    request_id: str
    tokens: list[int]
    logprobs: list[TokenLogprob] | None = None
    prompt_logprobs: list[TokenLogprob] | None = None
    finish_reason: FinishReason | None = None
    queue_seconds: float | None = None
    cached_tokens: int | None = None


class Classified(Message, frozen=True):
    """The scores of one text, one per label: probabilities, or raw values for a regression head. Terminal."""

    request_id: str
    probs: list[float]
    queue_seconds: float | None = None


class Embedded(Message, frozen=True):
    """The vector of one text. Terminal."""

    request_id: str
    vector: list[float]
    queue_seconds: float | None = None


class AdapterLoaded(Message, frozen=True):
    """The answer to `LoadAdapter`: the adapter is on the device."""

    request_id: str
    digest: str
    seconds: float


class Failed(Message, frozen=True):
    """The request ends here, with an error code of `core.errors`; `counts` is what was computed for it. Terminal."""

    request_id: str
    code: str
    message: str
    counts: TokenCounts = TokenCounts()


class Aborted(Message, frozen=True):
    """Follows every `Abort`; not an answer, but an account of what was computed until the request stopped.

    All counts are 0 if the engine did not know the request, or if it had already ended.
    """

    request_id: str
    counts: TokenCounts = TokenCounts()


Answer = TokenOutput | Classified | Embedded | AdapterLoaded
Output = Answer | Failed
"""The answers to requests."""


class LoadReport(Frozen, frozen=True):
    """One finished background load, for `headmix_adapter_load_seconds`."""

    source: Residency
    seconds: float


class StepReport(Frozen, frozen=True):
    """What one step did, for the histograms. Seconds are wall time of the step's three phases."""

    schedule_seconds: float
    run_seconds: float
    commit_seconds: float
    batch_tokens: int
    distinct_adapters: int


class ResidentAdapter(Frozen, frozen=True):
    """One adapter, the fastest tier that holds it, and the tenants that have recently used it there."""

    digest: str
    tier: Residency
    tenants: list[str] = msgspec.field(default_factory=list)


class EngineReport(Message, frozen=True):
    """The engine's state and the events since the last report; sent after steps and at least every second.

    Gauges are current values; `hits`, `misses` and `evictions` count by tier since the previous report,
    `prefix_queries` and `prefix_hits` count prompt tokens, `numerical_errors` counts sequences with results that were
    not finite, `drafted_tokens` counts tokens that were guessed ahead and `accepted_tokens` those that were right.
    `slots_loading` counts adapters being loaded from disk, which have no slot yet; `slots_pinned` are leased or idle.
    `resident` None means unchanged. The lists of adapters are digests: `running_adapters` have a slot, leased or idle;
    `waiting_adapters` have none and are waited for or being loaded, in the order in which they were requested.
    """

    running: int
    waiting: int
    kv_usage: float
    slots_free: int
    slots_leased: int
    slots_idle: int
    slots_loading: int
    slots_pinned: int = 0
    device_adapter_bytes: int = 0
    host_adapter_bytes: int = 0
    device_adapter_budget: int = 0
    host_adapter_budget: int = 0
    numerical_errors: int = 0
    steps: list[StepReport] = msgspec.field(default_factory=list)
    loads: list[LoadReport] = msgspec.field(default_factory=list)
    hits: dict[str, int] = msgspec.field(default_factory=dict)
    misses: dict[str, int] = msgspec.field(default_factory=dict)
    evictions: dict[str, int] = msgspec.field(default_factory=dict)
    prefix_queries: int = 0
    prefix_hits: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    resident: list[ResidentAdapter] | None = None
    running_adapters: list[str] = msgspec.field(default_factory=list)
    waiting_adapters: list[str] = msgspec.field(default_factory=list)


class Outputs(Message, frozen=True):
    """Everything one step sends, in one frame."""

    items: list[Output]
    report: EngineReport | None = None
    aborted: list[Aborted] = msgspec.field(default_factory=list)


FromEngine = EngineReady | EngineRefused | Outputs | EngineReport

# Created with the module: msgspec crashes if one thread decodes a type while another is the first to use it.
_TO_ENGINE: msgspec.msgpack.Decoder[ToEngine] = msgspec.msgpack.Decoder(ToEngine)
_FROM_ENGINE: msgspec.msgpack.Decoder[FromEngine] = msgspec.msgpack.Decoder(FromEngine)


def encode(message: Message) -> bytes:
    """Return the message's bytes."""
    return msgspec.msgpack.encode(message)


def decode_to_engine(frame: bytes) -> ToEngine:
    """Parse a frame sent by the API process.

    Raises:
        msgspec.MsgspecError: the frame is not one of the messages.
    """
    with _undecodable():
        return _TO_ENGINE.decode(frame)


def decode_from_engine(frame: bytes) -> FromEngine:
    """Parse a frame sent by the engine process.

    Raises:
        msgspec.MsgspecError: the frame is not one of the messages.
    """
    with _undecodable():
        return _FROM_ENGINE.decode(frame)


@contextmanager
def _undecodable() -> Iterator[None]:
    """Turn Python's error for text that is not UTF-8 into one of msgspec's."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from error
