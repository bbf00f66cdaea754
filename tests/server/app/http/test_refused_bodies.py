"""The body of a request refused before it was read: what happens to the rest, and to the connection."""

import asyncio

import pytest

from headmix_server.app.http import connection as http_connection
from tests.support.http.raw_server import (
    GET,
    answer,
    everything,
    served,
    write_on,
)


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
        await writer.drain()  # it is still received
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


async def test_a_client_that_expects_100_continue_gets_it_only_where_the_body_is_wanted() -> None:
    head = b" HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    async with served() as there:
        reader, writer = await there.open()
        writer.write(b"POST /" + head)
        assert b" 100 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        writer.write(b"abc")
        assert await answer(reader) == (200, b"3")
        writer.write(b"POST /refused" + head)
        assert (await answer(reader))[0] == 401
        assert await everything(reader) == b""  # the client decides whether the body still comes
        writer.close()
