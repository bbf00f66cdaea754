"""Wraps every request: its id, log line, metrics and usage, the release of what it holds, and the response to
unexpected exceptions. The body is read within `BodyLimit`, the response is sent by `PacedRefusals`.

Pure ASGI, so that streams pass through untouched. One log line per request: identifiers, status, counts and seconds.
"""

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headmix_server.api.middleware.body.body_limit import BodyLimit
from headmix_server.api.middleware.error_responses import INTERNAL_MESSAGE, error_response, record_error
from headmix_server.api.middleware.refusal_pace import PacedRefusals
from headmix_server.api.middleware.request_record import RequestRecord, start_record
from headmix_server.core.errors import HeadmixServerError, InternalError
from headmix_server.core.observability.logging import get_logger
from headmix_server.core.observability.metrics import Metrics
from headmix_server.tenancy.usage.meter import UsageMeter, Used

REQUEST_ID_HEADER = "x-request-id"
UNKNOWN_ROUTE = "unknown"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PARAM = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_COUNTED = ("/v1/", "/v2/", "/rerank", "/score", "/tokenize", "/detokenize")
"""Where the API's own routes begin; probes and scrapes are logged only at debug level and not counted."""


class RequestLog:
    """Wraps the application; `metrics` counts requests to the API's own routes, `usage` those of the model."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, usage: UsageMeter, bodies: BodyLimit, refusals: PacedRefusals
    ) -> None:
        self._app = app
        self._bodies = bodies
        self._refusals = refusals
        self._metrics = metrics
        self._usage = usage
        self._log = get_logger("api")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = start_record(scope, _request_id(Headers(scope=scope)))
        body, answer = self._bodies.body_of(scope, receive), self._refusals.answer_to(scope, send)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update({REQUEST_ID_HEADER: record.request_id, **record.headers})
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                await record.end()
            await answer.send(message)

        try:
            try:
                await self._app(scope, body.receive, send_with_id)
            finally:
                body.end()
        except Exception as error:  # noqa: BLE001 - the last place that can respond; the log has the details
            self._record_failure(record, error)
            if status == 0:
                await error_response(InternalError(INTERNAL_MESSAGE))(scope, receive, send_with_id)
        except BaseException:
            record.outcome = "aborted"
            raise
        finally:
            record.holds.end()
            self._finish(scope, record, status)
            await record.end()
        await answer.release()

    def _record_failure(self, record: RequestRecord, error: Exception) -> None:
        known = error.__cause__  # the framework's own error, where a response has begun, has the route's as its cause
        if isinstance(known, HeadmixServerError):
            record_error(record, known)
            self._log.error("a response was cut short", request_id=record.request_id, reason=known.message)
            return
        self._log.exception("internal error", request_id=record.request_id)
        record.outcome = InternalError.code

    def _finish(self, scope: Scope, record: RequestRecord, status: int) -> None:
        route = getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
        outcome = record.outcome or ("ok" if status < 400 else "error")
        seconds = record.seconds()
        counted = scope["path"].startswith(_COUNTED)
        (self._log.info if counted else self._log.debug)(
            "request",
            request_id=record.request_id,
            tenant=record.tenant,
            method=scope["method"],
            route=route,
            status=status,
            outcome=outcome,
            param=_loggable(record.refused_param),
            adapter=record.adapter,
            digest=record.digest,
            **({"adapters": record.adapters} if record.adapters else {}),
            prompt_tokens=record.prompt_tokens,
            generation_tokens=record.generation_tokens,
            seconds=round(seconds, 6),
        )
        if counted:
            self._metrics.request_finished(
                route,
                record.tenant,
                record.adapter,
                outcome,
                seconds=seconds if record.line is None else None,
                queue_seconds=record.queue_seconds if record.line is None else None,
                prompt_tokens=record.prompt_tokens,
                generation_tokens=record.generation_tokens,
                limit=record.limit,
            )
        if record.compared is not None and record.adapter is not None and record.line is None:
            self._metrics.version_answered(
                record.tenant,
                record.adapter,
                record.compared,
                outcome,
                seconds=seconds,
                first_token_seconds=record.first_token_seconds,
                generation_tokens=record.generation_tokens,
            )
        if record.prompt_tokens:
            self._usage.add(record.tenant, record.adapter, _used(record))


def _loggable(param: str | None) -> str | None:
    """Return a parameter's name if it looks like one: a client may send any text as a name."""
    return param if param is None or _PARAM.fullmatch(param) else "?"


def _used(record: RequestRecord) -> Used:
    return Used(
        requests=1,
        prompt_tokens=record.prompt_tokens,
        cached_tokens=sum(record.cached_tokens.values()),
        generation_tokens=record.generation_tokens,
    )


def _request_id(headers: Headers) -> str:
    """Return the client's id if it is safe in a log line, else a new one."""
    given = headers.get(REQUEST_ID_HEADER, "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
