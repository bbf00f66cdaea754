"""What one HTTP request turned out to be: who asked for what, how much was computed, how it ended.

Filled in by the code that learns it, read once at the end by `request_log` for the log line, the metrics and the
tenant's usage. It has identifiers and counts, never texts or keys, what the request holds until its end, and what is to
be done then.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection
from starlette.types import Scope

from headmix_server.catalog.bytes.holds import HeldUntilEnd
from headmix_server.core.observability.logging import get_logger
from headmix_server.core.types import TokenCounts
from headmix_server.tenancy.keys.principal import Principal

_KEY = "headmix.record"

Ending = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class RequestRecord:
    """The account of one request; `began` is `time.monotonic`, `outcome` None means the status decides.

    `principal` is who asks, once that is known. `compared` is the version that answered, where two of its name's are
    being compared. `cached_tokens` counts, by prompt, the tokens that its first choice found computed,
    `first_token_seconds` from the arrival on. `limit` names the limit that refused it, `refused_param` the parameter
    that an error named. `body_bytes` counts what arrived of its body. `headers` go out with every answer, whatever it
    turns out to be.
    """

    request_id: str
    began: float = field(default_factory=time.monotonic)
    tenant: str = ""
    principal: Principal | None = None
    adapter: str | None = None
    digest: str | None = None
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
    _prompts: dict[int, int] = field(default_factory=dict)
    _endings: list[Ending] = field(default_factory=list)

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens the engine has read, of several choices of a prompt once; 0 if nothing reached the model."""
        return sum(self._prompts.values())

    def computed(self, place: int, counts: TokenCounts, *, first: bool = True) -> None:
        """Add what the engine computed for the prompt at this place and one of its choices, the `first` or another."""
        self._prompts[place] = max(counts.prompt, self._prompts.get(place, 0))
        self.generation_tokens += counts.generated
        if first and counts.prompt:
            self.cached_tokens.setdefault(place, counts.cached)

    def at_end(self, ending: Ending) -> None:
        """Have something done when the request ends, however that is."""
        self._endings.append(ending)

    async def end(self) -> None:
        """Do what was to be done, once: before the answer's last byte, so that the next request finds it done."""
        while self._endings:
            ending = self._endings.pop()
            try:
                await ending()
            except Exception:  # noqa: BLE001 - an answer that is whole must not break over what is done after it
                get_logger("api").exception("a request's end failed", request_id=self.request_id)

    def concerns(self, adapter: str, digest: str) -> None:
        """Note which adapter the request is about, by the name its tenant has for it."""
        self.adapter, self.digest = adapter, digest

    def seconds(self) -> float:
        """Return the time since the request arrived."""
        return time.monotonic() - self.began

    def queued(self, seconds: float | None) -> None:
        """Note how long one of its engine requests was queued; the longest counts."""
        if seconds is not None:
            self.queue_seconds = max(seconds, self.queue_seconds or 0.0)


def start_record(scope: Scope, request_id: str) -> RequestRecord:
    """Begin the account of a request."""
    record = RequestRecord(request_id)
    scope.setdefault("state", {})[_KEY] = record
    return record


def record_of(request: HTTPConnection) -> RequestRecord:
    """Return the account of the request being served."""
    return record_in(request.scope)


def record_in(scope: Scope) -> RequestRecord:
    """Return the account of the request of this scope."""
    record = scope["state"][_KEY]
    if not isinstance(record, RequestRecord):
        raise TypeError("the request has no record: the middleware is missing")
    return record
