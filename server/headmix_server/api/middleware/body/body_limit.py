"""Bounds a request's body while it arrives: its size, its pace, and the memory that all bodies take together.

Uploads are bounded by pace alone: they are written to disk as they arrive, and their size is checked there. The route
decides whether a request is an upload, not the content type: a client may declare any type, and a JSON route gathers
the whole body regardless.

Only time spent waiting for the client counts. If a request was refused by its headers, its body is never read here and
is left to the connection.
"""

import asyncio
import re
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from headmix_server.api.middleware.body.body_budget import ArrivingBody, BodyBudget
from headmix_server.api.middleware.error_responses import BodyRefused
from headmix_server.api.middleware.request_record import record_in
from headmix_server.core.errors import PayloadTooLarge, RequestTimeout, ServerOverloaded

_UPLOAD = re.compile(r"/v1/(adapters|files|uploads/[^/]+/parts)")
"""The paths of uploads."""
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Pace:
    """How slowly a body may arrive: `seconds` of waiting, plus one more for every `bytes_per_second` received."""

    seconds: float
    bytes_per_second: int

    def after(self, patience: float, waited: float, received: int) -> float:
        """Return the remaining patience after a wait that received some bytes; it never exceeds `seconds`."""
        return min(self.seconds, patience - waited + received / self.bytes_per_second)


class BodyLimit:
    """The limits of all bodies; a body that is too large, too slow or over the budget is refused when it is read."""

    def __init__(self, max_mib: int, pace: Pace, budget: BodyBudget) -> None:
        self._max_mib = max_mib
        self._pace = pace
        self._budget = budget

    def body_of(self, scope: Scope, receive: Receive) -> "Body":
        """Return a request's body, read within the limits."""
        kept = scope["method"] != "POST" or _UPLOAD.fullmatch(scope["path"]) is None
        return Body(scope, receive, self._pace, self._max_mib * MIB if kept else None, self._budget)


class Body:
    """One request's body; `max_bytes` is None if it is not kept in memory."""

    def __init__(self, scope: Scope, receive: Receive, pace: Pace, max_bytes: int | None, budget: BodyBudget) -> None:
        self._scope = scope
        self._receive = receive
        self._pace = pace
        self._max_bytes = max_bytes
        self._budget = budget
        self._arriving: ArrivingBody | None = None
        self._patience = pace.seconds
        self._complete = False

    async def receive(self) -> Message:
        """Return the application's next message.

        Raises:
            BodyRefused: the rest of the body is refused.
        """
        if self._complete:
            return await self._receive()
        record = record_in(self._scope)
        if self._arriving is None:
            self._arriving = self._budget.open(record.tenant)
            declared = Headers(scope=self._scope).get("content-length", "")
            self._check_size(int(declared) if declared.isdecimal() else 0)
        message = await self._next(self._arriving)
        size = len(message.get("body", b""))
        record.body_bytes += size
        self._check_size(record.body_bytes)
        self._complete = not message.get("more_body", False)
        if self._complete:
            self._arriving.end()  # parsed within this turn of the loop
        elif self._max_bytes is not None:
            self._arriving.grow(size)
            _check_kept(self._arriving)
        return message

    def end(self) -> None:
        """Release the body's memory."""
        if self._arriving is not None:
            self._arriving.end()

    async def _next(self, arriving: ArrivingBody) -> Message:
        """Wait for the client, no longer than its pace permits."""
        _check_kept(arriving)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._patience) as timeout:
                arriving.waits(timeout)
                message = await self._receive()
        except TimeoutError as error:
            _check_kept(arriving)
            raise BodyRefused(RequestTimeout("The body arrived too slowly.")) from error
        finally:
            arriving.waits(None)
        self._patience = self._pace.after(self._patience, loop.time() - began, len(message.get("body", b"")))
        return message

    def _check_size(self, size: int) -> None:
        if self._max_bytes is not None and size > self._max_bytes:
            limit = self._max_bytes // MIB
            raise BodyRefused(PayloadTooLarge(f"The body is larger than the limit of {limit} MiB."))


def _check_kept(body: ArrivingBody) -> None:
    if body.evicted:
        raise BodyRefused(ServerOverloaded("Too many large bodies are being sent to this server at once; try again."))
