"""The engine requests of one HTTP request, made at the same time: all succeed, or the first failure ends the others."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from headmix_server.api.middleware.disconnect import end_tasks

T = TypeVar("T")


async def side_by_side(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results in order; where one raises, or this is cancelled, the rest are cancelled and have ended."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await end_tasks(*tasks)
