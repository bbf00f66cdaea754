"""Waits for a condition without assuming how long it takes; the test's time limit ends a wait that never succeeds."""

import asyncio
import contextlib
from collections.abc import Callable


async def until(holds: Callable[[], bool]) -> None:
    """Return once the condition holds."""
    pause = asyncio.Event()
    while not holds():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pause.wait(), 0.02)
