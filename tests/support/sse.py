"""Reads server-sent events as a client sees them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2


def events(text: str) -> list[Any]:
    """Return the events of a whole stream: parsed JSON, and `[DONE]` unparsed."""
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    return [_parse(block) for block in blocks]


async def read_events(response: httpx2.Response) -> AsyncIterator[Any]:
    """Yield the events as they arrive."""
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield _parse(line)


def _parse(block: str) -> Any:
    data = block.removeprefix("data: ")
    return data if data == "[DONE]" else json.loads(data)
