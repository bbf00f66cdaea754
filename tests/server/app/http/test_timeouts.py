"""Connections that send nothing, send too slowly or read nothing are closed; those that pause within limits are not."""

import asyncio

import pytest

from tests.support.http.raw_server import (
    BIG,
    GET,
    answer,
    error_of,
    eventually,
    everything,
    served,
)


@pytest.mark.parametrize("begun", [b"GET / HT", b"GET / HTTP/1.1\r\nx: a"])
async def test_headers_that_come_too_slowly_are_answered_408(begun: bytes) -> None:
    async with served(header_seconds=0.3) as there:
        assert error_of(await there.ask(begun)) == (408, "request_timeout")


async def test_a_trickle_of_headers_does_not_extend_the_time_limit() -> None:
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


async def test_a_long_response_and_a_pause_between_requests_do_not_count_as_idle() -> None:
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
