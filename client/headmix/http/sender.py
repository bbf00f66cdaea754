"""Owns sending requests: the connection pool, retries, and reading responses, blocking and with asyncio.

Knows no operations. The two senders differ only where they wait.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import TypeVar

import httpx2

from headmix.config import Settings
from headmix.errors import HeadmixError
from headmix.http.request import Request
from headmix.http.response import error_of, meta_of, transport_errors
from headmix.http.retry import RetryPolicy
from headmix.stream import AsyncStream, Stream

T = TypeVar("T")


class _Rules:
    """The decisions that both senders make without waiting."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._retry = RetryPolicy(settings.max_retries)

    def _delay(self, attempt: int, error: HeadmixError, request: Request[T]) -> float:
        """Return how long to wait before the next attempt; raises the error if there is to be none."""
        delay = self._retry.delay(attempt, error, request.repeatable)
        if delay is None:
            raise error
        return delay


def _build(
    http: httpx2.Client | httpx2.AsyncClient,
    request: Request[T],
    content: Iterator[bytes] | AsyncIterator[bytes] | None,
) -> httpx2.Request:
    return http.build_request(
        request.method,
        request.path,
        params=dict(request.query),
        json=request.json,
        content=content,
        headers=request.upload.headers() if request.upload else None,
    )


def _is_answer(response: httpx2.Response, request: Request[T]) -> bool:
    return response.is_success or response.status_code in request.answers


class Sender(_Rules):
    """Sends requests and waits for their responses."""

    def __init__(self, settings: Settings, transport: httpx2.BaseTransport | None) -> None:
        super().__init__(settings)
        self._http = httpx2.Client(
            base_url=settings.base_url,
            headers=settings.headers(),
            timeout=settings.timeout,
            transport=transport,
            trust_env=settings.minds_proxies,
        )

    def open(self, request: Request[T]) -> httpx2.Response:
        """Return the response, its body unread, after retries; the caller closes it.

        Raises:
            APIError: the server responded with an error.
            APIConnectionError: there was no response.
        """
        attempt = 0
        while True:
            try:
                return self._attempt(request)
            except HeadmixError as error:
                delay = self._delay(attempt, error, request)
            time.sleep(delay)
            attempt += 1

    def _attempt(self, request: Request[T]) -> httpx2.Response:
        with transport_errors():
            content = request.upload.blocks() if request.upload else None
            response = self._http.send(_build(self._http, request, content), stream=True)
            if _is_answer(response, request):
                return response
            with closing(response):
                raise error_of(response, response.read())

    def send(self, request: Request[T]) -> T:
        """Return the parsed response."""
        response = self.open(request)
        with transport_errors(), closing(response):
            body = response.read()
        return request.parse(body, meta_of(response))

    def stream(self, request: Request[T]) -> Stream[T]:
        """Return the response's chunks as they arrive."""
        return Stream(self.open(request), request.parse)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class AsyncSender(_Rules):
    """Sends requests with asyncio."""

    def __init__(self, settings: Settings, transport: httpx2.AsyncBaseTransport | None) -> None:
        super().__init__(settings)
        self._http = httpx2.AsyncClient(
            base_url=settings.base_url,
            headers=settings.headers(),
            timeout=settings.timeout,
            transport=transport,
            trust_env=settings.minds_proxies,
        )

    async def open(self, request: Request[T]) -> httpx2.Response:
        """See `Sender.open`."""
        attempt = 0
        while True:
            try:
                return await self._attempt(request)
            except HeadmixError as error:
                delay = self._delay(attempt, error, request)
            await asyncio.sleep(delay)
            attempt += 1

    async def _attempt(self, request: Request[T]) -> httpx2.Response:
        with transport_errors():
            content = request.upload.ablocks() if request.upload else None
            response = await self._http.send(_build(self._http, request, content), stream=True)
            if _is_answer(response, request):
                return response
            async with aclosing(response):
                raise error_of(response, await response.aread())

    async def send(self, request: Request[T]) -> T:
        """See `Sender.send`."""
        response = await self.open(request)
        with transport_errors():
            async with aclosing(response):
                body = await response.aread()
        return request.parse(body, meta_of(response))

    async def stream(self, request: Request[T]) -> AsyncStream[T]:
        """See `Sender.stream`."""
        return AsyncStream(await self.open(request), request.parse)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
