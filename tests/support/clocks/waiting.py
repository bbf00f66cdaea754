"""Waiting for something without assuming how long it takes; a test's own time limit ends what never comes."""

import asyncio
import contextlib
from collections.abc import Callable


async def until(holds: Callable[[], bool]) -> None:
    """Return once it holds."""
    pause = asyncio.Event()
    while not holds():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pause.wait(), 0.02)
