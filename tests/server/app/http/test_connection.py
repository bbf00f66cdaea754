"""What a client may send on a connection before anybody has looked at its key, and how long it may take."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from headmix_server.app.http import connection as http_connection
from headmix_server.app.http.connection import SLICE_BYTES, HttpConnection
from headmix_server.app.http.listen import listen
from headmix_server.app.http.server import HttpServer, http_server
from headmix_server.core.settings import Settings
from tests.support.clocks.waiting import until

KIB = 1024
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BIG = 3_000_000


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Echoes bodies; `/refused` does not read them, `/big` and `/stream` answer at length."""
    request = Request(scope, receive)
    match scope["path"]:
        case "/refused":
            await PlainTextResponse("no", 401)(scope, receive, send)
        case "/big":
            await PlainTextResponse(b"x" * BIG)(scope, receive, send)
        case "/stream":

            async def slowly() -> AsyncIterator[bytes]:
                for _ in range(8):
                    await asyncio.sleep(0.1)
                    yield b"x"

            await StreamingResponse(slowly())(scope, receive, send)
        case _:
            body = await request.body()
            trailed = request.headers.get("x-late", "")
            await PlainTextResponse(f"{len(body)}{trailed}")(scope, receive, send)


class Served:
    """A server on a port of its own."""

    def __init__(self, server: HttpServer, port: int) -> None:
        self.server = server
        self.port = port

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, *sent: bytes) -> bytes:
        """Return all that is answered until the server closes."""
        reader, writer = await self.open()
        for part in sent:
            writer.write(part)
        answered = await everything(reader)
        writer.close()
        return answered


async def everything(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the connection is closed; nothing where it is reset."""
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return status and body of the next answer of a connection."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    lines = head.decode().lower().split("\r\n")
    length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length"))
    return int(lines[0].split()[1]), await asyncio.wait_for(reader.readexactly(length), 20)


@asynccontextmanager
async def served(max_connections: int = 100, **settings: Any) -> AsyncIterator[Served]:
    with listen("127.0.0.1", 0) as listener:
        server = http_server(application, Settings(**settings), max_connections)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield Served(server, listener.getsockname()[1])
        finally:
            server.should_exit = server.force_exit = True
            await running


def error_of(answered: bytes) -> tuple[int, str]:
    head, _, body = answered.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert b"x-request-id: req_" in head.lower()
    return int(head.split()[1]), json.loads(body)["error"]["code"]


# Headers


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nx: " + b"a" * 5 * KIB + b"\r\n\r\n",
        b"GET /" + b"a" * 5 * KIB + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: a\r\n" * 21 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: aaaaaaaaaaaa\r\n" * 100_000,
    ],
    ids=["long", "target", "many", "endless"],
)
async def test_headers_beyond_the_limits_are_answered_431(head: bytes) -> None:
    async with served(max_header_kib=4, max_headers=20) as there:
        assert error_of(await there.ask(head)) == (431, "headers_too_large")


async def test_a_header_without_an_end_is_refused_while_it_arrives() -> None:
    async with served(max_header_kib=4) as there:
        reader, writer = await there.open()
        writer.write(b"GET / HTTP/1.1\r\nx: ")
        for _ in range(6):
            writer.write(b"a" * KIB)
            await asyncio.sleep(0.01)
        assert error_of(await everything(reader)) == (431, "headers_too_large")
        writer.close()


async def test_refusals_past_the_rate_wait_and_others_do_not() -> None:
    async with served(max_header_kib=4, limit_refusals_per_second=1) as there:
        endless = b"GET / HTTP/1.1\r\nx: " + b"a" * 5 * KIB + b"\r\n\r\n"
        refused = [asyncio.create_task(there.ask(endless)) for _ in range(5)]
        await asyncio.wait(refused, return_when=asyncio.FIRST_COMPLETED)
        reader, writer = await there.open()
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await answer(reader) == (200, b"0")
        writer.close()
        assert not all(task.done() for task in refused)
        for answered in await asyncio.gather(*refused):
            assert error_of(answered) == (431, "headers_too_large")


async def test_a_connection_whose_refusal_waits_makes_room_for_others() -> None:
    async with served(max_connections=1, max_header_kib=4, limit_refusals_per_second=1) as there:
        endless = b"GET / HTTP/1.1\r\nx: " + b"a" * 5 * KIB + b"\r\n\r\n"
        for _ in range(2):
            await there.ask(endless)
        waits = await there.open()
        waits[1].write(endless)
        await until(lambda: there.server.table.num_waiting == 1)
        other = await there.open()
        other[1].write(b"GET / HTTP/1.1\r\n\r\n")
        assert await answer(other[0]) == (200, b"0")
        assert await everything(waits[0]) == b""
        other[1].close()
        waits[1].close()


async def test_headers_within_the_limits_are_taken_however_they_are_cut() -> None:
    head = b"GET / HTTP/1.1\r\n" + b"x: " + b"a" * 3 * KIB + b"\r\n" + b"y: b\r\n" * 18 + b"\r\n"
    async with served(max_header_kib=4, max_headers=20) as there:
        reader, writer = await there.open()
        for step in (1, 7, 500, len(head)):
            for start in range(0, len(head), step):
                writer.write(head[start : start + step])
                if step > 1:
                    await asyncio.sleep(0)
            assert await answer(reader) == (200, b"0")
        writer.close()


async def test_trailers_are_bounded_and_never_become_headers() -> None:
    chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n"
    async with served(max_header_kib=4) as there:
        reader, writer = await there.open()
        writer.write(chunked + b"X-Late: 5\r\n\r\n")
        assert await answer(reader) == (200, b"2")
        writer.write(chunked)
        await asyncio.sleep(0.05)
        for _ in range(8):
            writer.write(b"X-Late: " + b"a" * KIB + b"\r\n")
            await asyncio.sleep(0.01)
        assert await everything(reader) == b""  # it was being served: no second answer may be taken for its own
        writer.close()


async def test_chunks_may_be_small_but_not_all_of_a_large_bodys() -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with served(max_header_kib=8) as there:
        reader, writer = await there.open()
        writer.write(head + b"10\r\naaaaaaaaaaaaaaaa\r\n" * 20_000 + b"0\r\n\r\n")
        assert await answer(reader) == (200, b"320000")
        writer.write(head + b"1\r\na\r\n" * 1_000 + b"0\r\n\r\n")
        assert await answer(reader) == (200, b"1000")
        writer.write(head + b"1\r\na\r\n" * 10_000)
        assert await everything(reader) == b""
        writer.close()


async def test_what_arrives_at_once_is_parsed_in_turns_with_others(monkeypatch: pytest.MonkeyPatch) -> None:
    fed = []
    feed = HttpConnection._feed

    def noting(connection: HttpConnection, data: bytes) -> None:
        fed.append(len(data))
        feed(connection, data)

    monkeypatch.setattr(HttpConnection, "_feed", noting)
    async with served() as there:
        reader, writer = await there.open()
        body = b"a" * 1_000_000
        chunks = b"".join(b"3e8\r\n" + body[start : start + 1000] + b"\r\n" for start in range(0, len(body), 1000))
        writer.write(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert await answer(reader) == (200, b"1000000")
        assert max(fed) <= SLICE_BYTES
        fed.clear()
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
        await asyncio.sleep(0.05)
        writer.write(body)
        assert await answer(reader) == (200, b"1000000")
        assert len(fed) < 1_000_000 / SLICE_BYTES  # one large thing: nobody has to wait for it
        writer.close()


async def test_pipelined_requests_are_answered_in_order_and_bounded() -> None:
    async with served() as there:
        reader, writer = await there.open()
        writer.write(GET * 20)
        assert [await answer(reader) for _ in range(20)] == [(200, b"0")] * 20
        writer.write(GET * 10_000)
        assert (await everything(reader)).count(b"HTTP/1.1 200") < 10_000
        writer.close()


async def test_what_is_no_http_is_answered_in_the_servers_own_form() -> None:
    async with served() as there:
        assert error_of(await there.ask(b"nonsense\r\n\r\n")) == (400, "invalid_request_error")


# Time


@pytest.mark.parametrize("begun", [b"GET / HT", b"GET / HTTP/1.1\r\nx: a"])
async def test_headers_that_come_too_slowly_are_answered_408(begun: bytes) -> None:
    async with served(header_seconds=0.3) as there:
        assert error_of(await there.ask(begun)) == (408, "request_timeout")


async def test_a_trickle_of_headers_is_no_progress() -> None:
    async with served(header_seconds=0.5) as there:
        reader, writer = await there.open()
        answered = asyncio.create_task(everything(reader))
        writer.write(b"GET / HTTP/1.1\r\n")
        for number in range(100):
            if answered.done():
                break
            writer.write(b"x%d: a\r\n" % number)
            await asyncio.sleep(0.05)
        assert error_of(await answered) == (408, "request_timeout")
        writer.close()


@pytest.mark.parametrize("before", [b"", b"\r\n", GET])
async def test_an_idle_connection_is_closed(before: bytes) -> None:
    async with served(header_seconds=0.3, idle_seconds=0.3) as there:
        answered = await there.ask(before)
        assert answered.count(b"HTTP/1.1 ") == bool(before.strip())


async def test_empty_lines_keep_no_connection_open() -> None:
    async with served(header_seconds=0.4) as there:
        reader, writer = await there.open()
        closed = asyncio.create_task(everything(reader))
        for _ in range(100):
            if closed.done():
                break
            writer.write(b"\r\n")
            await asyncio.sleep(0.05)
        assert await closed == b""
        writer.close()


async def test_a_long_answer_and_a_pause_between_requests_are_no_idling() -> None:
    async with served(header_seconds=0.3, idle_seconds=5) as there:
        reader, writer = await there.open()
        writer.write(b"GET /stream HTTP/1.1\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 20)).endswith(b"1\r\nx\r\n0\r\n\r\n")
        await asyncio.sleep(0.5)
        writer.write(GET)
        assert await answer(reader) == (200, b"0")
        writer.close()


async def test_a_client_that_reads_nothing_of_its_answer_is_cut_off_and_a_slow_one_is_not() -> None:
    async with served(idle_seconds=1.5) as there:
        _unread, silent = await there.open()
        silent.write(b"GET /big HTTP/1.1\r\n\r\n")
        reader, slow = await there.open()
        slow.write(b"GET /big HTTP/1.1\r\n\r\n")
        read = 0
        while read < BIG:
            read += len(await asyncio.wait_for(reader.read(200_000), 20))
            await asyncio.sleep(0.1)
        table = there.server.table
        await eventually(lambda: len(table) <= 1)
        slow.close()
        silent.close()


# Bodies nobody reads


async def test_a_refused_bodys_rest_is_dropped_and_the_connection_goes_on() -> None:
    async with served() as there:
        reader, writer = await there.open()
        writer.write(b"POST /refused HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
        assert (await answer(reader))[0] == 401
        writer.write(b"a" * 100_000 + GET)
        assert await answer(reader) == (200, b"0")
        writer.close()


async def test_a_refused_chunked_bodys_rest_is_not_even_parsed_and_the_connection_ends() -> None:
    async with served() as there:
        reader, writer = await there.open()
        writer.write(b"POST /refused HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert (await answer(reader))[0] == 401
        assert await everything(reader) == b""
        writer.write(b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n" + GET)
        await writer.drain()  # it is still taken in
        writer.close()


@pytest.mark.parametrize("head", [b"POST /refused HTTP/1.1\r\nConnection: close", b"POST /refused HTTP/1.0"])
async def test_an_answer_before_the_bodys_end_arrives_where_it_is_the_connections_last(head: bytes) -> None:
    async with served() as there:
        reader, writer = await there.open()
        writer.write(head + b"\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 300_000)
        for _ in range(7):
            await asyncio.sleep(0.01)
            writer.write(b"a" * 100_000)
            await writer.drain()
        answered = await asyncio.wait_for(reader.read(), 20)  # no reset
        assert answered.startswith(b"HTTP/1.1 401")
        assert answered.endswith(b"no")
        writer.close()


async def test_a_refused_body_that_does_not_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "LINGER_BYTES", 100_000)
    async with served() as there:
        reader, writer = await there.open()
        writer.write(b"POST /refused HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n")
        assert (await answer(reader))[0] == 401
        flood = asyncio.create_task(write_on(writer))
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(flood, 20)
        writer.close()


async def test_a_refused_body_that_trickles_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "LINGER_SECONDS", 0.3)
    async with served() as there:
        reader, writer = await there.open()
        writer.write(b"POST /refused HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        assert (await answer(reader))[0] == 401
        for _ in range(100):
            if reader.at_eof():
                break
            writer.write(b"a")
            await asyncio.sleep(0.05)
        assert await everything(reader) == b""
        writer.close()


async def test_whoever_asks_first_is_told_to_send_only_where_the_body_is_wanted() -> None:
    head = b" HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    async with served() as there:
        reader, writer = await there.open()
        writer.write(b"POST /" + head)
        assert b" 100 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        writer.write(b"abc")
        assert await answer(reader) == (200, b"3")
        writer.write(b"POST /refused" + head)
        assert (await answer(reader))[0] == 401
        assert await everything(reader) == b""  # whether the body still comes is the client's to decide
        writer.close()


# Many


async def test_of_too_many_connections_the_idlest_makes_room() -> None:
    async with served(max_connections=5) as there:
        idle = [await there.open() for _ in range(5)]
        reader, writer = idle[0]
        writer.write(GET)
        assert await answer(reader) == (200, b"0")
        newest = await there.open()
        newest[1].write(GET)
        assert await answer(newest[0]) == (200, b"0")
        assert await everything(idle[1][0]) == b""  # the first had just been answered
        writer.write(GET)
        assert await answer(reader) == (200, b"0")
        for _, opened in (*idle, newest):
            opened.close()


async def test_where_all_are_being_served_a_new_one_is_refused() -> None:
    async with served(max_connections=2) as there:
        busy = [await there.open() for _ in range(2)]
        for reader, writer in busy:
            writer.write(b"POST / HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            assert b" 100 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        assert error_of(await there.ask()) == (503, "server_overloaded")
        for reader, writer in busy:
            writer.write(b"abc")
            assert await answer(reader) == (200, b"3")
            writer.close()


async def write_on(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"a" * 10_000)
        await writer.drain()


async def eventually(holds: Callable[[], bool], pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    for _ in range(200):
        if holds():
            return
        await pause(0.05)
    raise AssertionError("it does not come to that")
