"""Work of which only so much is done at once, and whose turn it is: tenants take turns, each with its oldest request.

Owns how a request waits, and how many of one tenant may. Used on one event loop.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headmix_server.core.turns import TurnOrder


class TooManyWaiting(Exception):
    """As many requests of the tenant wait as may."""


class Turns:
    """Lets `at_once` callers in, of one tenant at most `most_each`. A caller that leaves holds up nobody.

    Of one tenant at most `most_waiting` wait; None is no limit.
    """

    def __init__(self, most_waiting: int | None = None, *, at_once: int = 1, most_each: int | None = None) -> None:
        self._most_waiting = most_waiting
        self._order: TurnOrder[asyncio.Future[None]] = TurnOrder(at_once, most_each)

    @property
    def waiting(self) -> int:
        """How many wait, of all tenants."""
        return len(self._order)

    @asynccontextmanager
    async def turn(self, tenant: str) -> AsyncIterator[None]:
        """Wait for a turn of the tenant's, and have it until the end of the block.

        Raises:
            TooManyWaiting: at once.
        """
        await self._wait(tenant)
        try:
            yield
        finally:
            self._end(tenant)

    async def _wait(self, tenant: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._order.join(tenant, turn)
        self._let_in()
        if turn.done():
            return
        if self._most_waiting is not None and self._order.waiting(tenant) > self._most_waiting:
            self._order.leave(tenant, turn)
            raise TooManyWaiting
        try:
            # Shielded: in a line there is nobody who has been cancelled and has not left yet.
            await asyncio.shield(turn)
        except asyncio.CancelledError:
            if turn.done():
                self._end(tenant)
            else:
                self._order.leave(tenant, turn)
            raise

    def _end(self, tenant: str) -> None:
        self._order.end(tenant)
        self._let_in()

    def _let_in(self) -> None:
        while (turn := self._order.take()) is not None:
            turn.set_result(None)
