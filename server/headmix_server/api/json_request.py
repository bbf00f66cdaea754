"""A request whose JSON body is kept only until it has been parsed, not for as long as its answer takes."""

import json
from typing import Any

from fastapi import Request

_PRESENT = b"{}"
"""Tells the framework that there is a body. It asks for the bytes and holds on to them, and then asks for the JSON."""


class JsonRequest(Request):
    """What routes are given; a body that is not JSON is dropped unread."""

    _raw: bytes = b""

    async def body(self) -> bytes:
        """Read the body; return nothing of it but whether there is one."""
        if not self._stream_consumed:
            self._raw = b"".join([block async for block in self.stream()])
        return _PRESENT if self._raw else b""

    async def json(self) -> Any:  # noqa: ANN401 - as the framework has it
        """Parse the body, once, and forget its bytes.

        Raises:
            ValueError: it is not JSON.
        """
        await self.body()
        raw, self._raw = self._raw, b""
        return json.loads(raw)
