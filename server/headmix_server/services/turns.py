"""Limits concurrent work and decides whose turn it is: tenants take turns, each with its oldest request.

Owns how a request waits, and how many of one tenant's may wait. Used on one event loop.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headmix_server.core.turns import TurnOrder


class TooManyWaiting(Exception):
    """The tenant already has the maximum number of waiting requests."""


class Turns:
    """Admits `at_once` callers, at most `most_each` per tenant. A caller that leaves delays no one.

    At most `most_waiting` of one tenant's callers wait; None means no limit.
    """

    def __init__(self, most_waiting: int | None = None, *, at_once: int = 1, most_each: int | None = None) -> None:
        self._most_waiting = most_waiting
        self._order: TurnOrder[asyncio.Future[None]] = TurnOrder(at_once, most_each)

    @property
    def waiting(self) -> int:
        """How many callers wait, over all tenants."""
        return len(self._order)

    @asynccontextmanager
    async def turn(self, tenant: str) -> AsyncIterator[None]:
        """Wait for a turn of the tenant, and keep it until the end of the block.

        Raises:
            TooManyWaiting: immediately, if too many of the tenant's callers wait.
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
            # Shielded: a queued future is never cancelled, so that a turn is not given to a caller who has left.
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
