"""Server-sent events in OpenAI's framing: `data: {...}` blocks, and `data: [DONE]` after success.

Owns the response that streams them. The response starts with the first event, so that an early error is still an HTTP
status, or once the wait for it exceeds a limit. It pings while the engine is silent, and closes the source of the
events as soon as the client disconnects. A later error is sent as an event, and the stream ends without `[DONE]`.

No library is used because three things are needed together: an HTTP status for errors before the first event, no
handling of process signals (the server drains by itself), and closing the source on disconnect.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from headmix_server.api.middleware.disconnect import end_tasks, until_disconnected, wait_disconnected
from headmix_server.api.middleware.error_responses import INTERNAL_MESSAGE, error_body, record_error
from headmix_server.api.middleware.request_record import RequestRecord, record_of
from headmix_server.core.errors import HeadmixServerError, InternalError
from headmix_server.core.observability.logging import get_logger

FIRST_EVENT_SECONDS = 5.0
PING_SECONDS = 15.0
DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"

STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
"""The OpenAPI entry of a route that can stream."""


class NamedEvent(NamedTuple):
    """An event with a name, as in streams of responses."""

    name: str
    json: bytes


Event = str | bytes | NamedEvent
Events = AsyncGenerator[Event, None]
"""JSON texts, one per event."""


def data(event: Event) -> bytes:
    """Return the bytes of one event; JSON contains no line breaks, so it is one line."""
    if isinstance(event, NamedEvent):
        return b"event: " + event.name.encode() + b"\n" + data(event.json)
    return b"data: " + (event.encode() if isinstance(event, str) else event) + b"\n\n"


def _error_event(error: HeadmixServerError) -> Event:
    return msgspec.json.encode(error_body(error))


@dataclass(frozen=True, slots=True)
class Ending:
    """How a stream ends: what is sent after success, and the event that reports a failure."""

    done: bytes = DONE
    failed: Callable[[HeadmixServerError], Event] = _error_event


_USUAL_ENDING = Ending()


async def open_stream(
    request: Request, events: Events, *, patience: float = FIRST_EVENT_SECONDS, ending: Ending = _USUAL_ENDING
) -> "EventStream":
    """Wait for the first event, at most `patience` seconds, and return the response that sends it and the rest.

    Raises:
        HeadmixServerError: the source failed before the first event.
        ClientGone: the client disconnected before the first event.
    """
    first = asyncio.ensure_future(anext(events, None))
    try:
        await until_disconnected(request, _wait_for_first(first, patience))
        if first.done():
            first.result()
    except BaseException:
        await end_tasks(first)
        await events.aclose()
        raise
    return EventStream(first, events, record_of(request), ending)


async def _wait_for_first(first: asyncio.Future[Event | None], patience: float) -> None:
    await asyncio.wait({first}, timeout=patience)


class EventStream(Response):
    """The response of a stream whose first event is, or will be, in `first`."""

    media_type = "text/event-stream"

    def __init__(
        self,
        first: asyncio.Future[Event | None],
        events: Events,
        record: RequestRecord,
        ending: Ending = _USUAL_ENDING,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no"})
        self._pending = first
        self._events = events
        self._record = record
        self._ending = ending
        self._sent_at = monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the events end or the client disconnects."""
        sending = asyncio.ensure_future(self._send_all(send))
        gone = asyncio.ensure_future(wait_disconnected(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            else:
                self._record.outcome = "aborted"
        finally:
            await end_tasks(sending, gone, self._pending)
            await self._events.aclose()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        pinging = asyncio.ensure_future(self._ping_in_silence(send))
        try:
            event = await self._pending
            while event is not None:
                self._sent_at = monotonic()
                await _send_body(send, data(event))
                event = await anext(self._events, None)
            last = self._ending.done
        except HeadmixServerError as error:
            record_error(self._record, error)
            last = data(self._ending.failed(error))
        except Exception:  # noqa: BLE001 - the client must be told, whatever broke; the log has the details
            get_logger("api").exception("internal error in a stream", request_id=self._record.request_id)
            self._record.outcome = InternalError.code
            last = data(self._ending.failed(InternalError(INTERNAL_MESSAGE)))
        finally:
            await end_tasks(pinging)
        await _send_body(send, last)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _ping_in_silence(self, send: Send) -> None:
        """Send a ping whenever nothing was sent for a while; in a separate task, so that events need no timeout."""
        while True:
            silence = monotonic() - self._sent_at
            if silence >= PING_SECONDS:
                self._sent_at, silence = monotonic(), 0.0
                await _send_body(send, PING)
            await asyncio.sleep(PING_SECONDS - silence)


async def _send_body(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
