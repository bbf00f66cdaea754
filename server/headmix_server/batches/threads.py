"""Blocking work whose end is waited for even by a task that is cancelled meanwhile.

A thread that nobody waits for would go on with a database that its server has closed, or claim a batch for nobody.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Return what the work does in a thread; cancelled, raise only once it is done."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        if not working.cancelled():
            working.exception()  # it is nobody's any more
        raise
