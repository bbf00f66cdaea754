"""Owns the two iterators over a streamed response. Only `ChunkReader` interprets events."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

import httpx2

from headmix.errors import ErrorDetail, StreamError
from headmix.http.request import Parser
from headmix.http.response import error_detail, error_object, meta_of, transport_errors
from headmix.http.sse import SSEDecoder
from headmix.types.result import AdapterRef, ResponseMeta

T = TypeVar("T")

_DONE = "[DONE]"


class ChunkReader(Generic[T]):
    """Turns a stream's bytes into chunks. Does no I/O."""

    def __init__(self, parse: Parser[T], meta: ResponseMeta) -> None:
        self._parse = parse
        self._meta = meta
        self._decoder = SSEDecoder()
        self.finished = False

    def feed(self, block: bytes) -> Iterator[T]:
        """Yield the chunks this block completes.

        Raises:
            StreamError: at an error event, after the chunks before it.
        """
        for event in self._decoder.feed(block):
            if event.data.strip() == _DONE:
                self.finished = True
                return
            data = event.data.encode()
            # Searching for the word first avoids parsing every chunk twice.
            if b'"error"' in data and error_object(data) is not None:
                raise StreamError(error_detail(data, fallback="the stream failed", request_id=self._meta.request_id))
            yield self._parse(data, self._meta)

    def end(self) -> None:
        """Mark the end of the bytes.

        Raises:
            StreamError: the stream was not finished, so its text is cut short.
        """
        if not self.finished:
            raise StreamError(ErrorDetail("the stream ended before its end mark", request_id=self._meta.request_id))


class _Streamed(Generic[T]):
    """What both iterators know about their response."""

    def __init__(self, response: httpx2.Response, parse: Parser[T]) -> None:
        self._response = response
        self._meta = meta_of(response)
        self._reader = ChunkReader(parse, self._meta)

    @property
    def request_id(self) -> str | None:
        """The server's id of the request."""
        return self._meta.request_id

    @property
    def adapter(self) -> AdapterRef | None:
        """The adapter that answers; None if the base itself does."""
        return self._meta.adapter


class Stream(_Streamed[T], Iterator[T]):
    """An iterator over typed chunks; use it as a context manager if you may stop early, so that the server stops too.

    Raises:
        StreamError: the server reports an error, or the stream ends early.
        APIConnectionError: the connection breaks.
    """

    def __init__(self, response: httpx2.Response, parse: Parser[T]) -> None:
        super().__init__(response, parse)
        self._chunks = self._read()

    def _read(self) -> Iterator[T]:
        try:
            with transport_errors():
                for block in self._response.iter_bytes():
                    yield from self._reader.feed(block)
                    if self._reader.finished:
                        break
            self._reader.end()
        finally:
            self._response.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return next(self._chunks)

    def close(self) -> None:
        """Stop; the server aborts the generation."""
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncStream(_Streamed[T], AsyncIterator[T]):
    """`Stream` for asyncio: `async for`, `async with`, `aclose`."""

    def __init__(self, response: httpx2.Response, parse: Parser[T]) -> None:
        super().__init__(response, parse)
        self._chunks = self._read()

    async def _read(self) -> AsyncGenerator[T, None]:
        try:
            with transport_errors():
                async for block in self._response.aiter_bytes():
                    for chunk in self._reader.feed(block):
                        yield chunk
                    if self._reader.finished:
                        break
            self._reader.end()
        finally:
            await self._response.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """Stop; the server aborts the generation."""
        await self._response.aclose()
        await self._chunks.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
