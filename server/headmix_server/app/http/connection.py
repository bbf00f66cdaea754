"""One connection: uvicorn's, with bounds on what its client may send and how long it may stay idle.

Owns how requests beyond the bounds are refused, how long headers may take and a connection may be idle, and what
happens to a body that nobody reads. The pace of a body that is read is up to `api.middleware.body.body_limit`.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from headmix_server.api.middleware.error_responses import error_response
from headmix_server.api.middleware.refusal_pace import RefusalPace, party_at
from headmix_server.app.http.connection_table import ConnectionTable
from headmix_server.app.http.held_flow import HeldFlow
from headmix_server.app.http.request_bounds import HeaderLimits, RequestBounds, TooLargeError
from headmix_server.core.errors import (
    HeadersTooLarge,
    HeadmixServerError,
    InvalidRequest,
    RequestTimeout,
    ServerOverloaded,
)

LINGER_SECONDS = 10.0
LINGER_BYTES = 16 * 1024 * 1024
"""How much of a body is still received after its request was answered. Closing a connection while its client sends
resets it, and the response may be lost.
"""
SLICE_BYTES = 16 * 1024
"""How much input that may contain many small items is parsed at a time, before other tasks get a turn."""
BACKLOG = 512
"""Connections that the system queues until they are accepted, all of them in one turn of the event loop."""
MOST_PIPELINED = 32
"""Requests that may be queued on one connection behind the one being served."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one connection may send, and how long it may take."""

    headers: HeaderLimits
    header_seconds: float
    idle_seconds: float


class HttpConfig(uvicorn.Config):
    """uvicorn's configuration, plus what every connection of this server needs."""

    def __init__(
        self,
        app: ASGIApp,
        limits: ConnectionLimits,
        table: ConnectionTable,
        pace: RefusalPace,
        closing_seconds: int,
    ) -> None:
        super().__init__(
            app,
            http=HttpConnection,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=closing_seconds,
        )
        self.limits = limits
        self.table = table
        self.pace = pace


class HttpConnection(HttpToolsProtocol):
    """A connection that is refused, timed out or closed if its client exceeds the bounds."""

    def __init__(
        self,
        config: HttpConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = config.limits
        self._table = config.table
        self._pace = config.pace
        self._bounds = RequestBounds(config.limits.headers)
        self._refused = False
        self._too_large = False
        self._is_chunked = False
        self._backlog = b""
        self._discarded = 0
        self._timer: asyncio.TimerHandle | None = None
        self._expects_headers = False
        self._reader_timer: asyncio.TimerHandle | None = None
        self._unsent = 0

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Set up the connection; if the server has no room for it, respond with an error and close it."""
        super().connection_made(transport)
        self.flow = self._reading = HeldFlow(transport)
        if self._table.add(self):
            self._wait()
        else:
            self._refused = True
            transport.write(_answer(ServerOverloaded("The server has reached its limit of connections; try again.")))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up."""
        self._disarm()
        if self._reader_timer is not None:
            self._reader_timer.cancel()
        self._table.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle received data."""
        if self._refused or self._is_discarding:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                self.give_way()
        if self._backlog:
            self._keep_for_later(self._backlog + data)
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        """Parse received data; if it may contain many headers, chunks or requests, parse only a slice of it now."""
        whole = self._bounds.in_body and not self._is_chunked
        if len(data) > SLICE_BYTES and not whole:
            self._feed(data[:SLICE_BYTES])
            self._keep_for_later(data[SLICE_BYTES:])
        else:
            self._feed(data)

    def _keep_for_later(self, data: bytes) -> None:
        if self._refused or self.transport.is_closing():
            return
        if not self._backlog:
            self.loop.call_soon(self._go_on)
        self._backlog = data
        self._reading.hold()

    def _go_on(self) -> None:
        """Parse the next slice."""
        data, self._backlog = self._backlog, b""
        if self.transport.is_closing():
            return
        self._parse(data)
        if not self._backlog and not self.transport.is_closing():
            self._reading.let_go()

    def _feed(self, data: bytes) -> None:
        if self._refused or self.transport.is_closing():
            return
        if not (self._is_serving or self._is_discarding or self._expects_headers):
            self._expect_headers()
        self._bounds.before_feed()
        super().data_received(data)
        if self.transport.is_closing() or self._refused:
            return
        try:
            self._bounds.after_feed(len(data))
        except TooLargeError:
            self._refuse(self._headers_too_large())

    def give_way(self) -> None:
        """Close the connection without waiting for a client that does not read."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        """Start a request."""
        super().on_message_begin()
        self._bounds.begin()

    def on_url(self, url: bytes) -> None:
        """Handle a part of the request's target."""
        self._count_header(len(url), 0)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Handle a header. Trailers are dropped: decisions that were based on the headers stand."""
        if self._bounds.in_headers:
            self._count_header(len(name) + len(value), 1)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Pass the request to the application."""
        if len(self.pipeline) >= MOST_PIPELINED:
            self._too_large = True
            raise TooLargeError
        self._bounds.end_headers()
        self._is_chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        self._discarded = 0
        self._disarm()
        self._table.serves(self)
        super().on_headers_complete()
        self.cycle.transport = _AnswerTransport(self.transport, self._end_after_answer)

    def on_body(self, body: bytes) -> None:
        """Handle a part of a body."""
        self._bounds.add_body(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Finish a request, whose response may already have been sent."""
        was_discarding = self._is_discarding
        self._bounds.end()
        super().on_message_complete()
        if was_discarding:
            self._wait()

    def send_400_response(self, msg: str) -> None:
        """Respond to input that the parser rejected."""
        self._refuse(self._headers_too_large() if self._too_large else InvalidRequest(msg))

    # The response

    def on_response_complete(self) -> None:
        """Finish a response; nobody reads the rest of the request's body."""
        super().on_response_complete()
        self._unset_keepalive_if_required()
        if self.transport.is_closing() or self._refused or self._is_serving:
            return
        self._table.waits(self)
        if self._bounds.in_body and (self._is_chunked or self.expect_100_continue):
            self._linger()  # its end may never come, or take any amount of work to find
        elif self._bounds.in_body:
            self._arm(LINGER_SECONDS, self.give_way)
        else:
            self._wait()

    def _end_after_answer(self) -> None:
        """Close the connection after its last response."""
        if self._bounds.in_body and not self.transport.is_closing():
            self._table.waits(self)
            self._linger()
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """Hold the response back while the client does not read; a client that stops reading is disconnected."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """Continue with the response."""
        super().resume_writing()
        if self._reader_timer is not None:
            self._reader_timer.cancel()

    def _watch_reader(self) -> None:
        self._unsent = self.transport.get_write_buffer_size()
        self._reader_timer = self.loop.call_later(self._limits.idle_seconds, self._check_reader)

    def _check_reader(self) -> None:
        if self.transport.get_write_buffer_size() >= self._unsent:
            self.transport.abort()
        else:
            self._watch_reader()

    # What happens next

    @property
    def _is_serving(self) -> bool:
        """Whether a response is still to be sent."""
        return bool(self.pipeline) or (self.cycle is not None and not self.cycle.response_complete)

    @property
    def _is_discarding(self) -> bool:
        """Whether received data belongs to a request that was already answered."""
        return self._bounds.in_body and not self._is_serving

    def _wait(self) -> None:
        """Wait for the next request, which may have started already."""
        if self._bounds.in_headers:
            self._expect_headers()
        else:
            self._expects_headers = False
            self._arm(self._limits.idle_seconds, self._end_idle)

    def _end_idle(self) -> None:
        if self.flow.write_paused:  # the client is still reading the last response
            self._wait()
        else:
            self.give_way()

    def _expect_headers(self) -> None:
        self._arm(self._limits.header_seconds, self._end_slow)
        self._expects_headers = True

    def _end_slow(self) -> None:
        if self._bounds.in_headers:
            self._refuse(RequestTimeout("The request's headers arrived too slowly."))
        else:
            self.give_way()

    def _count_header(self, size: int, count: int) -> None:
        try:
            self._bounds.add_header(size, count)
        except TooLargeError:
            self._too_large = True
            raise

    def _headers_too_large(self) -> HeadersTooLarge:
        limits = self._limits.headers
        return HeadersTooLarge(
            f"A request's line and headers have at most {limits.size // 1024} KiB, in at most {limits.count} headers."
        )

    def _refuse(self, error: HeadmixServerError) -> None:
        """Respond with an error and close; without the response if it would be taken for that of another request."""
        self._refused = True
        self._disarm()
        if self.transport.is_closing():
            return
        if self._is_serving:
            self.give_way()
            return
        self._table.waits(self)
        wait = self._pace.take(party_at(self.client))
        if wait:
            self._arm(wait, partial(self._answer_and_linger, error))
        else:
            self._answer_and_linger(error)

    def _answer_and_linger(self, error: HeadmixServerError) -> None:
        self.transport.write(_answer(error))
        self._linger()

    def _linger(self) -> None:
        """Close the sending side, and discard what the client sends until it notices."""
        self._refused = True
        self._discarded = 0
        self._backlog = b""
        self.flow.resume_reading()
        self._reading.let_go()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._arm(LINGER_SECONDS, self.give_way)

    def _arm(self, seconds: float, action: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, action)

    def _disarm(self) -> None:
        self._expects_headers = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _AnswerTransport(asyncio.Transport):
    """The transport for a response; closing it is left to the connection, whose client may still be sending."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        super().__init__()
        self._transport = transport
        self.close = close  # type: ignore[method-assign]

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write to the connection."""
        self._transport.write(data)

    def is_closing(self) -> bool:
        """Return whether the connection is being closed."""
        return self._transport.is_closing()


def _answer(error: HeadmixServerError) -> bytes:
    """Return an error response as bytes on the wire."""
    response, status = error_response(error), HTTPStatus(error.status)
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "connection: close",
        f"x-request-id: req_{secrets.token_hex(12)}",
        *(f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in response.raw_headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + bytes(response.body)
