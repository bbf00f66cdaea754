"""Several streams as one: whoever has something to say is heard; if one fails, the others end too."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

from headmix_server.api.disconnect import end_tasks

T = TypeVar("T")

_WAITING_ITEMS = 64


async def fan_in(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """Yield (index of the stream, item) until all streams have ended. Closing it, or an error in one, closes all."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for item in only:
                yield 0, item
        return
    queue: asyncio.Queue[tuple[int, T] | None] = asyncio.Queue(_WAITING_ITEMS)
    pumps = [asyncio.ensure_future(_pump(index, stream, queue)) for index, stream in enumerate(streams)]
    everything = asyncio.ensure_future(_until_all_end(pumps, queue))
    try:
        while (entry := await queue.get()) is not None:
            yield entry
        everything.result()
    finally:
        await end_tasks(everything, *pumps)


async def _pump(index: int, stream: AsyncGenerator[T, None], queue: asyncio.Queue[tuple[int, T] | None]) -> None:
    async with aclosing(stream):
        async for item in stream:
            await queue.put((index, item))


async def _until_all_end(pumps: Sequence[asyncio.Future[None]], queue: asyncio.Queue[tuple[int, T] | None]) -> None:
    """Wait for all pumps, or for the first that fails; then say so to the reader."""
    try:
        await asyncio.gather(*pumps)
    except Exception:
        await queue.put(None)
        raise
    await queue.put(None)
