"""Threads for blocking work, with a pool for each kind of work so that no kind waits for another.

In a single pool, changes that wait for the database's write lock would keep keys from being checked. The blocking work
of inference requests stays in the framework's pool.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import CancelScope, CapacityLimiter, to_thread

P = ParamSpec("P")
T = TypeVar("T")

AUTHENTICATION_THREADS = 8
MANAGEMENT_THREADS = 16
MANAGEMENT_THREADS_OF_A_TENANT = 4
UPLOAD_THREADS = 8
STORING_THREADS = 8
STORING_THREADS_OF_A_TENANT = 2


class Threads:
    """The pools of one server; used on one event loop."""

    def __init__(self) -> None:
        self._authentication = CapacityLimiter(AUTHENTICATION_THREADS)
        self._management = SharedThreads(MANAGEMENT_THREADS, MANAGEMENT_THREADS_OF_A_TENANT)
        self._storing = SharedThreads(STORING_THREADS, STORING_THREADS_OF_A_TENANT)
        self._uploads = CapacityLimiter(UPLOAD_THREADS)
        self._scraping = CapacityLimiter(1)

    async def authenticate(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Look up a key or its tenant's limits: every request has to wait for this."""
        return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=self._authentication)

    async def scrape(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Render metrics, one page at a time."""
        return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=self._scraping)

    async def receive(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Write a block of an upload, or do the work before its first block and after its last."""
        return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=self._uploads)

    @asynccontextmanager
    async def within(self, manager: AbstractContextManager[T]) -> AsyncIterator[T]:
        """Enter and exit an upload's context manager; it exits even if the request is cancelled."""
        value = await self.receive(manager.__enter__)
        try:
            yield value
        except BaseException as error:
            with CancelScope(shield=True):
                suppressed = await self.receive(manager.__exit__, type(error), error, error.__traceback__)
            if not suppressed:
                raise
        else:
            with CancelScope(shield=True):
                await self.receive(manager.__exit__, None, None, None)

    async def store(self, tenant: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Validate and store an upload, or delete an adapter: work that may wait for a bucket."""
        return await self._storing.run(tenant, partial(work, *args, **kwargs))

    async def manage(self, tenant: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do the work of a tenant's management request."""
        return await self._management.run(tenant, partial(work, *args, **kwargs))


class SharedThreads:
    """A pool of `most` threads, of which one tenant may use at most `most_each`."""

    def __init__(self, most: int, most_each: int) -> None:
        self._limiter = CapacityLimiter(most)
        self._most_each = most_each
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._using: Counter[str] = Counter()

    @property
    def tenants(self) -> frozenset[str]:
        """The tenants whose work is running or queued."""
        return frozenset(self._using) | frozenset(self._turns)

    async def run(self, tenant: str, work: Callable[[], T]) -> T:
        """Run one piece of a tenant's work."""
        async with self._turn(tenant):
            return await to_thread.run_sync(work, limiter=self._limiter)

    @asynccontextmanager
    async def _turn(self, tenant: str) -> AsyncIterator[None]:
        turns = self._turns.setdefault(tenant, asyncio.Semaphore(self._most_each))
        self._using[tenant] += 1
        try:
            async with turns:
                yield
        finally:
            self._using[tenant] -= 1
            if not self._using[tenant]:
                del self._using[tenant], self._turns[tenant]
