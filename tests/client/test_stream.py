"""Streams of chunks, over a real connection."""

import asyncio
import itertools
import json
import threading
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headmix import APIConnectionError, AsyncClient, ChatChunk, Client, HeadmixError, InvalidResponseError, StreamError
from headmix.http.request import parser_of
from headmix.stream import ChunkReader
from headmix.types.result import ResponseMeta
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import ADAPTER_HEADER, DIGEST, USAGE, chat_chunk, completion_chunk

CHATS = "/v1/chat/completions"
STREAM = Reply.stream(
    chat_chunk("Hé"), chat_chunk("llo"), chat_chunk(None, "stop"), x_request_id="r-9", x_headmix_adapter=ADAPTER_HEADER
)
BROKEN = {"error": {"message": "engine died", "type": "server_error", "param": None, "code": "engine_unavailable"}}


def test_chunks_are_typed_and_the_stream_knows_who_answers(server: FakeServer, client: Client) -> None:
    server.script("POST", CHATS, STREAM)
    with client.stream.chat("Hello", model="tone") as stream:
        chunks = list(stream)
    assert [chunk.text for chunk in chunks] == ["Hé", "llo", ""]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert (stream.request_id, str(stream.adapter)) == ("r-9", f"tone@3 {DIGEST}")
    assert chunks[0].request_id == "r-9"


def test_completions_stream_too(server: FakeServer, client: Client) -> None:
    last = completion_chunk("", "length") | {"choices": [], "usage": USAGE}
    server.script("POST", "/v1/completions", Reply.stream(completion_chunk("a"), completion_chunk("b"), last))
    chunks = list(client.stream.complete("x", model="tone", include_usage=True))
    assert "".join(chunk.text for chunk in chunks) == "ab"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 5
    assert json.loads(server.last.body)["stream_options"] == {"include_usage": True}


def test_a_chunk_arrives_before_the_next_is_generated(server: FakeServer, client: Client) -> None:
    generated = threading.Event()
    server.script("POST", CHATS, Reply(200, STREAM.body, STREAM.headers, hold=generated))
    with client.stream.chat("Hello", model="tone") as stream:
        assert next(stream).text == "Hé"
        generated.set()
        assert [chunk.text for chunk in stream] == ["llo", ""]


def test_an_error_event_raises_after_the_chunks_before_it(server: FakeServer, client: Client) -> None:
    server.script("POST", CHATS, Reply.stream(chat_chunk("He"), BROKEN, done=False, x_request_id="r-9"))
    stream = client.stream.chat("Hello", model="tone")
    assert next(stream).text == "He"
    with pytest.raises(StreamError, match="engine died") as caught:
        next(stream)
    assert (caught.value.code, caught.value.request_id) == ("engine_unavailable", "r-9")


def test_a_stream_without_its_end_mark_is_an_error(server: FakeServer, client: Client) -> None:
    server.script("POST", CHATS, Reply.stream(chat_chunk("He"), done=False))
    with pytest.raises(StreamError, match="ended before"):
        list(client.stream.chat("Hello", model="tone"))


def test_a_connection_cut_in_a_stream_is_an_error(server: FakeServer, client: Client) -> None:
    body = Reply.stream(chat_chunk("He"), done=False)
    server.script("POST", CHATS, Reply(200, body.body, body.headers, cut=True))
    with pytest.raises(APIConnectionError):
        list(client.stream.chat("Hello", model="tone"))
    assert len(server.received) == 1


def test_a_chunk_of_another_shape_is_an_error(server: FakeServer, client: Client) -> None:
    server.script("POST", CHATS, Reply.stream({"hello": 1}))
    with pytest.raises(InvalidResponseError, match="not a ChatChunk"):
        list(client.stream.chat("Hello", model="tone"))


def test_stopping_early_closes_the_connection(server: FakeServer, client: Client) -> None:
    generated = threading.Event()
    server.script("POST", CHATS, Reply(200, STREAM.body, STREAM.headers, hold=generated))
    with client.stream.chat("Hello", model="tone") as stream:
        next(stream)
    with pytest.raises(HeadmixError):
        list(stream)
    generated.set()


async def test_the_async_stream_is_the_same(server: FakeServer) -> None:
    server.script("POST", CHATS, STREAM)
    async with AsyncClient(server.url) as client, await client.stream.chat("Hello", model="tone") as stream:
        assert [chunk.text async for chunk in stream] == ["Hé", "llo", ""]
        assert (stream.request_id, str(stream.adapter)) == ("r-9", f"tone@3 {DIGEST}")


async def test_async_errors_are_the_same(server: FakeServer) -> None:
    async def read(client: AsyncClient) -> AsyncIterator[str]:
        async for chunk in await client.stream.chat("Hello", model="tone"):
            yield chunk.text

    server.script("POST", CHATS, Reply.stream(BROKEN, done=False), Reply.stream(chat_chunk("He"), done=False))
    async with AsyncClient(server.url) as client:
        with pytest.raises(StreamError, match="engine died"):
            [text async for text in read(client)]
        with pytest.raises(StreamError, match="ended before"):
            [text async for text in read(client)]


async def test_a_cancelled_async_stream_leaves_the_client_usable(server: FakeServer) -> None:
    generated = threading.Event()
    server.script("POST", CHATS, Reply(200, STREAM.body, STREAM.headers, hold=generated), STREAM)
    started = asyncio.Event()

    async def read(client: AsyncClient) -> None:
        async with await client.stream.chat("Hello", model="tone") as stream:
            async for _ in stream:
                started.set()

    async with AsyncClient(server.url) as client:
        task = asyncio.create_task(read(client))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        generated.set()
        async with await client.stream.chat("Hello", model="tone") as stream:
            assert len([chunk async for chunk in stream]) == 3


@given(st.data())
def test_any_cutting_of_the_bytes_gives_the_same_chunks(data: st.DataObject) -> None:
    raw = b": ping\n\n" + b"".join(STREAM.body[:3] if not isinstance(STREAM.body, bytes) else [])
    raw += b"data: [DONE]\r\n\r\ndata: ignored after the end\n\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    bounds = [0, *cuts, len(raw)]
    reader = ChunkReader(parser_of(ChatChunk), ResponseMeta())
    texts: list[str] = []
    for start, end in itertools.pairwise(bounds):
        texts += [chunk.text for chunk in reader.feed(raw[start:end])]
        if reader.finished:
            break
    assert texts == ["Hé", "llo", ""]
    reader.end()
