"""A whole response of many pieces is sent block by block, with its length in the headers."""

import asyncio
from typing import Any

import pytest

from headmix_server.api.responses.whole_response import BLOCK, WholeResponse
from tests.support.clocks.loop_time import loop_time


async def sent(pieces: list[bytes]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    await WholeResponse(pieces)({"type": "http"}, receive, send)
    return messages


@pytest.mark.parametrize(
    "pieces", [[b""], [b"{", b"}"], [b"x" * BLOCK], [b"x"] * (3 * BLOCK), [b"x" * (2 * BLOCK)] * 2]
)
async def test_the_pieces_arrive_in_order_and_none_is_lost(pieces: list[bytes]) -> None:
    start, *bodies = await sent(pieces)
    headers = dict(start["headers"])
    assert b"".join(body["body"] for body in bodies) == b"".join(pieces)
    assert (headers[b"content-length"], headers[b"content-type"]) == (
        str(len(b"".join(pieces))).encode(),
        b"application/json",
    )
    assert [body["more_body"] for body in bodies] == [True] * (len(bodies) - 1) + [False]


async def test_others_have_their_turn_between_two_blocks() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    with loop_time():
        await asyncio.create_task(sent([b"x" * 1000] * 20_000))  # 20 MB
    task.cancel()
    assert turns > 50
