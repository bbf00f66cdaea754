import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from headmix_server.api.inference.fan_in import fan_in


class Source:
    """A stream that counts its items, can fail, and records that it was closed."""

    def __init__(self, items: int, *, fails: bool = False, endless: bool = False) -> None:
        self.items, self.fails, self.endless = items, fails, endless
        self.closed = False

    async def stream(self) -> AsyncGenerator[int, None]:
        try:
            for item in range(self.items):
                await asyncio.sleep(0)
                yield item
            if self.fails:
                raise LookupError("failed")
            if self.endless:
                await asyncio.Event().wait()
        finally:
            self.closed = True


@pytest.mark.parametrize("count", [1, 3])
async def test_everything_arrives_in_each_streams_order(count: int) -> None:
    sources = [Source(100) for _ in range(count)]
    seen: list[list[int]] = [[] for _ in sources]
    async for index, item in fan_in([source.stream() for source in sources]):
        seen[index].append(item)
    assert seen == [list(range(100))] * count
    assert all(source.closed for source in sources)


async def test_a_failure_of_one_closes_the_others_and_is_raised() -> None:
    sources = [Source(1, endless=True), Source(2, fails=True), Source(1, endless=True)]
    with pytest.raises(LookupError):
        async for _ in fan_in([source.stream() for source in sources]):
            pass
    assert all(source.closed for source in sources)


@pytest.mark.parametrize("count", [1, 3])
async def test_a_reader_that_stops_closes_every_stream_even_full_ones(count: int) -> None:
    sources = [Source(1000) for _ in range(count)]
    async with aclosing(fan_in([source.stream() for source in sources])) as merged:
        await anext(merged)
        await asyncio.sleep(0.01)
    assert all(source.closed for source in sources)


@pytest.mark.parametrize("count", [1, 3])
async def test_streams_run_to_their_end_though_nobody_reads(count: int) -> None:
    sources = [Source(1000) for _ in range(count)]
    async with aclosing(fan_in([source.stream() for source in sources])) as merged:
        await anext(merged)
        async with asyncio.timeout(10):
            while not all(source.closed for source in sources):  # noqa: ASYNC110 - the sources signal nothing
                await asyncio.sleep(0.001)
        seen = [entry async for entry in merged]
    assert len(seen) == 1000 * count - 1
