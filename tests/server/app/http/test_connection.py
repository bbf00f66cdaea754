"""What a client may send on a connection before its key is checked, and how long it may take."""

import asyncio

import pytest

from headmix_server.app.http.connection import SLICE_BYTES, HttpConnection
from tests.support.clocks.waiting import until
from tests.support.http.raw_server import (
    GET,
    KIB,
    answer,
    error_of,
    everything,
    served,
)


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
        assert await everything(reader) == b""  # it was being served: a second response could be mistaken for its own
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
        assert len(fed) < 1_000_000 / SLICE_BYTES  # one large piece: nobody has to wait for it
        writer.close()


async def test_pipelined_requests_are_answered_in_order_and_bounded() -> None:
    async with served() as there:
        reader, writer = await there.open()
        writer.write(GET * 20)
        assert [await answer(reader) for _ in range(20)] == [(200, b"0")] * 20
        writer.write(GET * 10_000)
        assert (await everything(reader)).count(b"HTTP/1.1 200") < 10_000
        writer.close()


async def test_malformed_http_is_answered_in_the_servers_own_form() -> None:
    async with served() as there:
        assert error_of(await there.ask(b"nonsense\r\n\r\n")) == (400, "invalid_request_error")


async def test_beyond_the_limit_the_connection_idle_for_longest_is_closed() -> None:
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
