"""A non-streamed JSON response that was built in pieces; they are joined and sent one block at a time."""

import asyncio
from collections.abc import Iterator, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

BLOCK = 256 << 10
"""The bytes that are joined and sent before other tasks get a turn."""


class WholeResponse(Response):
    """The response, with a content length as usual for a response that is not a stream."""

    media_type = "application/json"

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.status_code = 200
        self.background = None
        self._pieces = pieces
        self.init_headers({"content-length": str(sum(map(len, pieces)))})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        blocks = _blocks(self._pieces)
        block = next(blocks)
        for following in blocks:
            await send({"type": "http.response.body", "body": block, "more_body": True})
            await asyncio.sleep(0)
            block = following
        await send({"type": "http.response.body", "body": block, "more_body": False})


def _blocks(pieces: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the pieces joined into blocks; at least one."""
    block, size = list[bytes](), 0
    for piece in pieces:
        block.append(piece)
        size += len(piece)
        if size >= BLOCK:
            yield b"".join(block)
            block, size = [], 0
    yield b"".join(block)
