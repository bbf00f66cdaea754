"""The account of one HTTP request: who requested what, how much was computed, how it ended.

Filled in by the code that learns each fact, and read once at the end by `request_log` for the log line, the metrics and
the tenant's usage. It contains identifiers and counts, never texts or keys, plus what the request holds and the
callbacks to run when it ends.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection
from starlette.types import Scope

from headmix_server.api.middleware.batch_line import BatchLine, line_in
from headmix_server.catalog.bytes.holds import HeldUntilEnd
from headmix_server.core.observability.logging import get_logger
from headmix_server.core.types import TokenCounts
from headmix_server.tenancy.keys.principal import Principal

_KEY = "headmix.record"

Ending = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class RequestRecord:
    """The account of one request; `began` is `time.monotonic`; with `outcome` None the status determines the outcome.

    `principal` is the caller, once known. `compared` is the version that answered, if two versions of the name are
    being compared. `adapters` describes all adapters of a request that names several, or a scaled one; `adapter` is the
    first. `cached_tokens` counts, per prompt, the tokens that its first choice found in the cache;
    `first_token_seconds` counts from the request's arrival. `limit` names the limit that refused it, `refused_param`
    the parameter that the error named. `body_bytes` counts the received bytes of its body. `headers` go out with every
    response, errors included. `line` is set for a line of a batch.
    """

    request_id: str
    began: float = field(default_factory=time.monotonic)
    tenant: str = ""
    principal: Principal | None = None
    adapter: str | None = None
    digest: str | None = None
    adapters: list[str] = field(default_factory=list)
    compared: int | None = None
    generation_tokens: int = 0
    cached_tokens: dict[int, int] = field(default_factory=dict)
    queue_seconds: float | None = None
    first_token_seconds: float | None = None
    outcome: str | None = None
    holds: HeldUntilEnd = field(default_factory=HeldUntilEnd)
    limit: str = ""
    refused_param: str | None = None
    body_bytes: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    line: BatchLine | None = None
    _prompts: dict[int, int] = field(default_factory=dict)
    _endings: list[Ending] = field(default_factory=list)

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens the engine has read, once per prompt whatever its choices; 0 if nothing reached the model."""
        return sum(self._prompts.values())

    def computed(self, place: int, counts: TokenCounts, *, first: bool = True) -> None:
        """Add what the engine computed for one choice, the `first` or another, of the prompt at this place."""
        self._prompts[place] = max(counts.prompt, self._prompts.get(place, 0))
        self.generation_tokens += counts.generated
        if first and counts.prompt:
            self.cached_tokens.setdefault(place, counts.cached)

    def at_end(self, ending: Ending) -> None:
        """Add a callback to run when the request ends, however it ends."""
        self._endings.append(ending)

    async def end(self) -> None:
        """Run the callbacks once, before the response's last byte, so that the next request sees their effect."""
        while self._endings:
            ending = self._endings.pop()
            try:
                await ending()
            except Exception:  # noqa: BLE001 - a failing callback must not break a complete response
                get_logger("api").exception("a request's end failed", request_id=self.request_id)

    def concerns(self, adapter: str, digest: str) -> None:
        """Record which adapter the request uses, by the name its tenant has for it."""
        self.adapter, self.digest = adapter, digest

    def seconds(self) -> float:
        """Return the time since the request arrived."""
        return time.monotonic() - self.began

    def queued(self, seconds: float | None) -> None:
        """Record how long one of its engine requests was queued; the longest counts."""
        if seconds is not None:
            self.queue_seconds = max(seconds, self.queue_seconds or 0.0)


def start_record(scope: Scope, request_id: str) -> RequestRecord:
    """Start the account of a request."""
    record = RequestRecord(request_id, line=line_in(scope))
    scope.setdefault("state", {})[_KEY] = record
    return record


def record_of(request: HTTPConnection) -> RequestRecord:
    """Return the record of the request being served."""
    return record_in(request.scope)


def record_in(scope: Scope) -> RequestRecord:
    """Return the record of the request with this scope."""
    record = scope["state"][_KEY]
    if not isinstance(record, RequestRecord):
        raise TypeError("the request has no record: the middleware is missing")
    return record
