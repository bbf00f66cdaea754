import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.requests import Request
from starlette.types import Message

from headmix_server.api.middleware.error_responses import ClientGone
from headmix_server.api.middleware.request_record import record_of, start_record
from headmix_server.api.responses import sse
from headmix_server.api.responses.sse import DONE, PING, data, open_stream
from headmix_server.core.errors import ServerOverloaded


class Connection:
    """One ASGI request whose body was read; `leave` disconnects."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.began = asyncio.Event()
        self.pinged = asyncio.Event()
        self.sent: list[Message] = []
        self.request = Request({"type": "http"}, self.receive)
        start_record(self.request.scope, "r")

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        self.began.set()
        if message.get("body") == PING:
            self.pinged.set()

    async def stream(self, events: AsyncGenerator[str, None], *, patience: float = 5.0) -> list[bytes]:
        response = await open_stream(self.request, events, patience=patience)
        await response(self.request.scope, self.receive, self.send)
        return [message["body"] for message in self.sent if message["type"] == "http.response.body"]


async def test_events_are_data_lines_and_a_good_end_is_done() -> None:
    async def events() -> AsyncGenerator[str, None]:
        yield '{"a":1}'
        yield '{"a":2}'

    connection = Connection()
    assert await connection.stream(events()) == [b'data: {"a":1}\n\n', b'data: {"a":2}\n\n', DONE, b""]
    headers = dict(connection.sent[0]["headers"])
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert (headers[b"cache-control"], headers[b"x-accel-buffering"]) == (b"no-store", b"no")


async def test_a_stream_without_events_is_only_done() -> None:
    async def events() -> AsyncGenerator[str, None]:
        return
        yield

    assert await Connection().stream(events()) == [DONE, b""]


async def test_a_silent_source_is_bridged_by_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection()

    async def events() -> AsyncGenerator[str, None]:
        yield "1"
        await connection.pinged.wait()
        yield "2"

    monkeypatch.setattr(sse, "PING_SECONDS", 0.001)
    sent = await connection.stream(events())
    assert [body for body in sent if body != PING] == [data("1"), data("2"), DONE, b""]


async def test_a_slow_first_event_does_not_keep_the_headers_waiting() -> None:
    connection = Connection()

    async def events() -> AsyncGenerator[str, None]:
        await connection.began.wait()
        yield "1"

    assert await connection.stream(events(), patience=0) == [data("1"), DONE, b""]


async def test_an_error_after_the_headers_is_an_event_even_if_it_is_the_first() -> None:
    connection = Connection()

    async def events() -> AsyncGenerator[str, None]:
        await connection.began.wait()
        if connection.sent:
            raise ServerOverloaded("full")
        yield "never"

    first, end = await connection.stream(events(), patience=0)
    assert b'"code":"server_overloaded"' in first
    assert end == b""
    assert record_of(connection.request).outcome == "server_overloaded"


async def test_a_bug_in_the_middle_ends_the_stream_without_its_words() -> None:
    async def events() -> AsyncGenerator[str, None]:
        yield "1"
        raise RuntimeError("the secret of line 7")

    _, last, end = await Connection().stream(events())
    assert b'"code":"internal_error"' in last
    assert b"secret" not in last
    assert end == b""


async def test_a_client_that_leaves_before_the_first_event_ends_the_source() -> None:
    connection, closed = Connection(), asyncio.Event()

    async def events() -> AsyncGenerator[str, None]:
        try:
            await asyncio.Event().wait()
            yield "never"
        finally:
            closed.set()

    connection.left.set()
    with pytest.raises(ClientGone):
        await connection.stream(events())
    assert closed.is_set()


async def test_a_client_that_leaves_in_the_middle_ends_the_source() -> None:
    connection, closed = Connection(), asyncio.Event()

    async def events() -> AsyncGenerator[str, None]:
        try:
            yield "1"
            connection.left.set()
            await asyncio.Event().wait()
            yield "never"
        finally:
            closed.set()

    assert await connection.stream(events()) == [data("1")]
    assert closed.is_set()
    assert record_of(connection.request).outcome == "aborted"
