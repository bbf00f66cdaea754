"""Bounds the bytes of a JSON body, declared or streamed, before they are gathered in memory.

Uploads are not its business: they are written as they arrive and bounded where they are written. Which request is one
is told by its route: the content type is the client's word, and a JSON route gathers a body whatever that says.
"""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPLOAD = ("POST", "/v1/adapters")
MIB = 1024 * 1024


class BodyLimit:
    """Wraps the application; a longer body ends in 413."""

    def __init__(self, app: ASGIApp, max_mib: int) -> None:
        self._app = app
        self._max_bytes = max_mib * MIB
        self._too_large = f"The body is larger than the limit of {max_mib} MiB."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request within the limit."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if (scope["method"], scope["path"]) == UPLOAD:
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        taken = 0

        async def receive_within_limit() -> Message:
            # An HTTPException is what the framework lets pass when it reads a body; other errors become its own 400.
            nonlocal taken
            if declared.isdecimal() and int(declared) > self._max_bytes:
                raise HTTPException(413, self._too_large)
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_bytes:
                raise HTTPException(413, self._too_large)
            return message

        await self._app(scope, receive_within_limit, send)
