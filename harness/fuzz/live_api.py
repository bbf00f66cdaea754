"""The API in this process: its own HTTP server on a loopback port, in a thread, with an engine that answers at once.

Knows how to send bytes and read the response. It has three adapters: `poet` generates, `judge` classifies, and `censor`
gives several labels.
"""

import asyncio
import socket
import tempfile
import threading
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cache
from http.client import BadStatusLine, HTTPConnection, HTTPResponse
from pathlib import Path

from harness.bases.base_folder import write_base_folder
from harness.server.api_rig import ApiRig, api_rig
from headmix_server.api.app import create_app
from headmix_server.app.http.server import http_server

PATIENCE_SECONDS = 30.0
MAX_CONNECTIONS = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes


class LiveApi:
    """Runs until closed. `key` is a tenant's, with every scope."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._folder = tempfile.TemporaryDirectory()
        self._stop = asyncio.Event()
        self._connection: HTTPConnection | None = None
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._live(started),), daemon=True)
        self._thread.start()
        started.result(PATIENCE_SECONDS)

    async def _live(self, started: "Future[None]") -> None:
        folder = Path(self._folder.name)
        async with AsyncExitStack() as opened:
            base = write_base_folder(folder / "base")
            rig = await opened.enter_async_context(api_rig(base, folder / "data"))
            listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
            server = http_server(create_app(rig.state), rig.state.settings, MAX_CONNECTIONS)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            self.port = int(listener.getsockname()[1])
            self.key = rig.keys["tenant"]
            _furnish(rig)
            started.set_result(None)
            await self._stop.wait()
            server.should_exit = True
            await serving

    def close(self) -> None:
        """Stop the thread and remove the data."""
        if self._connection is not None:
            self._connection.close()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(PATIENCE_SECONDS)
        self._loop.close()
        self._folder.cleanup()

    def send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        """Send one request on a kept-alive connection, or on a new one if the server has closed it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                return self._send_on(connection, method, path, body, headers)
            except (ConnectionError, BadStatusLine):
                connection.close()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        return self._send_on(connection, method, path, body, headers)

    def _send_on(
        self, connection: HTTPConnection, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> Answer:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        read = Answer(answer.status, dict(answer.getheaders()), answer.read())
        if answer.will_close:
            connection.close()
        else:
            self._connection = connection
        return read

    def send_bytes(self, data: bytes) -> Answer | None:
        """Send exactly these bytes and nothing more; return None if the server closes without a response."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS) as connection:
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            except OSError:  # refused before everything was sent
                pass
            try:
                answer = HTTPResponse(connection, method="HEAD" if data.startswith(b"HEAD ") else None)
                answer.begin()
                return Answer(answer.status, dict(answer.getheaders()), answer.read())
            except (ConnectionError, OSError) as error:
                if isinstance(error, TimeoutError):
                    raise
                return None


@cache
def live_api() -> LiveApi:
    """Return the process's API, started on first use."""
    return LiveApi()


def close_live_api() -> None:
    """Stop the process's API if it was started; call it before the interpreter exits, which waits for threads."""
    if live_api.cache_info().currsize:
        live_api().close()
        live_api.cache_clear()


def _furnish(rig: ApiRig) -> None:
    rig.publish("poet")
    rig.publish("judge", labels=("ham", "spam"))
    rig.publish("censor", labels=("hate", "spam"), problem="multi_label")
    rig.says("the fox")
    rig.engine.probs = [0.25, 0.75]
    rig.engine.vector = [0.5, 0.5]
