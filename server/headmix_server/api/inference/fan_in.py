"""Several streams merged into one, in the order their items arrive; if one fails, the others end too.

The streams run ahead of the reader: their side effects, such as stopping the engine at a stop string, must not wait for
a client that reads slowly or not at all. The streams themselves bound what is buffered: a completion by its length.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Generic, TypeVar

from headmix_server.api.middleware.disconnect import end_tasks

T = TypeVar("T")

_ITEMS_AT_ONCE = 16
"""Ready items that are taken without a pause; then other tasks get a turn."""


async def fan_in(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """Yield (index of the stream, item) until all streams have ended. Closing it, or an error in one, closes all."""
    channel = _Channel[T]()
    pumps = [asyncio.ensure_future(_pump(index, stream, channel)) for index, stream in enumerate(streams)]
    everything = asyncio.ensure_future(_until_all_end(pumps, channel))
    try:
        while True:
            await channel.ready()
            taken = 0
            while channel.items:
                yield channel.items.popleft()
                taken += 1
                if taken % _ITEMS_AT_ONCE == 0:
                    await asyncio.sleep(0)
            if channel.ended:
                break
        everything.result()
    finally:
        await end_tasks(everything, *pumps)


class _Channel(Generic[T]):
    """Items that the streams produced and the reader has not taken; one reader. Nothing follows once it has `ended`."""

    def __init__(self) -> None:
        self.items: deque[tuple[int, T]] = deque()
        self.ended = False
        self._reader: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def ready(self) -> None:
        """Wait until there are items, or until no more can come."""
        while not (self.items or self.ended):
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader


async def _pump(index: int, stream: AsyncGenerator[T, None], channel: _Channel[T]) -> None:
    taken = 0
    async with aclosing(stream):
        async for item in stream:
            channel.items.append((index, item))
            channel.wake()
            taken += 1
            if taken % _ITEMS_AT_ONCE == 0:
                await asyncio.sleep(0)


async def _until_all_end(pumps: Sequence[asyncio.Future[None]], channel: _Channel[T]) -> None:
    """Wait for all pumps, or for the first that fails; then wake the reader."""
    try:
        await asyncio.gather(*pumps)
    finally:
        channel.ended = True
        channel.wake()
