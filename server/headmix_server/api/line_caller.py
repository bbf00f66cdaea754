"""Answers the lines of batches by the application itself, as if each were sent over HTTP by its tenant.

No connection, no key and no network: the line enters behind them. Everything after that is the route's own.
"""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Scope

from headmix_server.api.middleware.batch_line import BatchLine, mark_line
from headmix_server.batches.held_models import HeldModels
from headmix_server.batches.line import Answer, Line, Rest
from headmix_server.batches.request import read_request
from headmix_server.core.errors import EngineUnavailable
from headmix_server.jobs.claims import Claim
from headmix_server.tenancy.keys.principal import Principal
from headmix_server.tenancy.keys.principal import Scope as KeyScope

_PASSES = (429, 503)
"""Refusals that a line waits for, unless the response says that a retry is of no use."""


class LineCaller:
    """Calls one application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, claim: Claim, endpoint: str, line: Line, models: HeldModels, rest: Rest) -> Answer:
        """Return the answer to a line of a claimed batch; cancelling it aborts the line. It waits within `rest`."""
        principal = Principal(claim.job.tenant, frozenset({KeyScope.INFERENCE}), read_request(claim.job.request).key_id)
        scope = _scope(endpoint, len(line.body))
        mark_line(scope, BatchLine(principal, models, rest))
        exchange = _Exchange(line.body)
        await self._app(scope, exchange.receive, exchange.send)
        return exchange.answer()


class _Exchange:
    """A request's body, and the response to it."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._status = 0
        self._headers = Headers()
        self._parts: list[bytes] = []

    async def receive(self) -> Message:
        """Return the body at once; nobody disconnects."""
        if self._body is None:
            await asyncio.Event().wait()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Collect the response."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = Headers(raw=message["headers"])
        elif message["type"] == "http.response.body":
            self._parts.append(message.get("body", b""))

    def answer(self) -> Answer:
        """Return the response."""
        retry: float | None = None
        if self._status in _PASSES and self._headers.get("x-should-retry") != "false":
            given = self._headers.get("retry-after", "")
            retry = float(given) if given.isdecimal() else float(EngineUnavailable.usual_retry or 1)
        return Answer(self._status, self._headers.get("x-request-id", ""), b"".join(self._parts), retry)


def _scope(path: str, size: int) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(size).encode())],
        "client": None,
        "server": None,
    }
