"""A server for tests over raw connections: an application that echoes, and its responses, read byte by byte."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from headmix_server.app.http.listen import listen
from headmix_server.app.http.server import HttpServer, http_server
from headmix_server.core.settings.settings import Settings

KIB = 1024
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BIG = 3_000_000


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo bodies; `/refused` does not read them, `/big` and `/stream` send long responses."""
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
    """A server on its own port."""

    def __init__(self, server: HttpServer, port: int) -> None:
        self.server = server
        self.port = port

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, *sent: bytes) -> bytes:
        """Return everything received until the server closes."""
        reader, writer = await self.open()
        for part in sent:
            writer.write(part)
        answered = await everything(reader)
        writer.close()
        return answered


async def everything(reader: asyncio.StreamReader) -> bytes:
    """Return what arrives until the connection is closed; nothing if it is reset."""
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return the status and body of the next response on a connection."""
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
