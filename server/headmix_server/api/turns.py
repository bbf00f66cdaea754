"""Work that is done one piece at a time, and whose turn it is: tenants take turns, each with its oldest request.

Owns the order and how many of one tenant may wait. Used on one event loop.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class TooManyWaiting(Exception):
    """As many requests of the tenant wait as may."""


class Turns:
    """Lets one caller in at a time. Whoever leaves while it waits, or is let in, holds up nobody."""

    def __init__(self, most_waiting: int) -> None:
        self._most_waiting = most_waiting
        self._taken = False
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """By tenant, in the order of their next turns; no tenant without a request."""

    @property
    def waiting(self) -> int:
        """How many wait, of all tenants."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def turn(self, tenant: str) -> AsyncIterator[None]:
        """Wait for a turn of the tenant's, and have it until the end of the block.

        Raises:
            TooManyWaiting: at once.
        """
        if self._taken:
            await self._wait(tenant)
        self._taken = True
        try:
            yield
        finally:
            self._pass_on(tenant)

    async def _wait(self, tenant: str) -> None:
        if len(self._waiting.get(tenant, ())) >= self._most_waiting:
            raise TooManyWaiting
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on(tenant)
            else:
                self._remove(tenant, turn)
            raise

    def _remove(self, tenant: str, turn: asyncio.Future[None]) -> None:
        self._waiting[tenant].remove(turn)
        if not self._waiting[tenant]:
            del self._waiting[tenant]

    def _pass_on(self, tenant: str) -> None:
        """Let in the next; the tenant that had its turn comes last."""
        if own := self._waiting.pop(tenant, None):
            self._waiting[tenant] = own
        following = next(iter(self._waiting), None)
        self._taken = following is not None
        if following is not None:
            turn = self._waiting[following][0]
            self._remove(following, turn)
            turn.set_result(None)
