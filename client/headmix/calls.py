"""Owns how a client's methods are made: an operation (a function that builds a Request) bound to a sender.

`complete = Call(operations.complete)` in a class body defines a method with exactly the operation's parameters that
sends the request the operation builds. So each operation's signature, documentation and parsing exist only once, for
both clients.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Generic, ParamSpec, TypeVar, overload

from headmix.http.request import Request
from headmix.http.sender import AsyncSender, Sender
from headmix.page import Page, next_page
from headmix.stream import AsyncStream, Stream

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


class Bound:
    """A part of the client that blocks while sending."""

    def __init__(self, sender: Sender) -> None:
        self.sender = sender


class AsyncBound:
    """A part of the client that sends with asyncio."""

    def __init__(self, sender: AsyncSender) -> None:
        self.sender = sender


class _Method(Generic[P, T]):
    def __init__(self, build: Callable[P, Request[T]]) -> None:
        self.build = build
        self.__doc__ = build.__doc__

    def _sending(self, send: Callable[[Request[T]], R]) -> Callable[P, R]:
        @wraps(self.build)
        def method(*args: P.args, **kwargs: P.kwargs) -> R:
            return send(self.build(*args, **kwargs))

        return method


class Call(_Method[P, T]):
    """A method that returns the parsed response."""

    @overload
    def __get__(self, part: None, owner: type) -> Callable[P, Request[T]]: ...
    @overload
    def __get__(self, part: Bound, owner: type) -> Callable[P, T]: ...
    def __get__(self, part: Bound | None, owner: type) -> Callable[P, Request[T]] | Callable[P, T]:
        return self.build if part is None else self._sending(part.sender.send)


class StreamCall(_Method[P, T]):
    """A method that returns an iterator over the response's chunks."""

    @overload
    def __get__(self, part: None, owner: type) -> Callable[P, Request[T]]: ...
    @overload
    def __get__(self, part: Bound, owner: type) -> Callable[P, Stream[T]]: ...
    def __get__(self, part: Bound | None, owner: type) -> Callable[P, Request[T]] | Callable[P, Stream[T]]:
        return self.build if part is None else self._sending(part.sender.stream)


class PagedCall(_Method[P, Page[T]]):
    """A method that returns a whole list, requesting it page by page."""

    @overload
    def __get__(self, part: None, owner: type) -> Callable[P, Request[Page[T]]]: ...
    @overload
    def __get__(self, part: Bound, owner: type) -> Callable[P, tuple[T, ...]]: ...
    def __get__(self, part: Bound | None, owner: type) -> Callable[P, Request[Page[T]]] | Callable[P, tuple[T, ...]]:
        if part is None:
            return self.build
        send = part.sender.send

        def all_of(first: Request[Page[T]]) -> tuple[T, ...]:
            items: list[T] = []
            request: Request[Page[T]] | None = first
            while request is not None:
                page = send(request)
                items += page.items
                request = next_page(request, page)
            return tuple(items)

        return self._sending(all_of)


class AsyncCall(_Method[P, T]):
    """`Call`, awaited."""

    @overload
    def __get__(self, part: None, owner: type) -> Callable[P, Request[T]]: ...
    @overload
    def __get__(self, part: AsyncBound, owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, part: AsyncBound | None, owner: type) -> Callable[P, Request[T]] | Callable[P, Awaitable[T]]:
        return self.build if part is None else self._sending(part.sender.send)


class AsyncPagedCall(_Method[P, Page[T]]):
    """`PagedCall`, awaited."""

    @overload
    def __get__(self, part: None, owner: type) -> Callable[P, Request[Page[T]]]: ...
    @overload
    def __get__(self, part: AsyncBound, owner: type) -> Callable[P, Awaitable[tuple[T, ...]]]: ...
    def __get__(
        self, part: AsyncBound | None, owner: type
    ) -> Callable[P, Request[Page[T]]] | Callable[P, Awaitable[tuple[T, ...]]]:
        if part is None:
            return self.build
        send = part.sender.send

        async def all_of(first: Request[Page[T]]) -> tuple[T, ...]:
            items: list[T] = []
            request: Request[Page[T]] | None = first
            while request is not None:
                page = await send(request)
                items += page.items
                request = next_page(request, page)
            return tuple(items)

        return self._sending(all_of)


class AsyncStreamCall(_Method[P, T]):
    """`StreamCall`, awaited: `async for chunk in await client.stream.chat(...)`."""

    @overload
    def __get__(self, part: None, owner: type) -> Callable[P, Request[T]]: ...
    @overload
    def __get__(self, part: AsyncBound, owner: type) -> Callable[P, Awaitable[AsyncStream[T]]]: ...
    def __get__(
        self, part: AsyncBound | None, owner: type
    ) -> Callable[P, Request[T]] | Callable[P, Awaitable[AsyncStream[T]]]:
        return self.build if part is None else self._sending(part.sender.stream)
