"""Threads for work that blocks, each kind with its own: no kind waits for another's.

Without this one pool serves everything, and changes that wait for the database's write lock keep keys from being
checked. What a request of the model needs stays in the framework's pool.
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
        """Find out who asks and what its tenant may: what every request has to wait for."""
        return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=self._authentication)

    async def scrape(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Write metrics, one at a time."""
        return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=self._scraping)

    async def receive(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Write a block of an upload, and what comes before the first and after the last."""
        return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=self._uploads)

    @asynccontextmanager
    async def within(self, manager: AbstractContextManager[T]) -> AsyncIterator[T]:
        """Enter and leave an upload's context manager; it is left in the end even where the request is cancelled."""
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
        """Judge and store an upload, or remove an adapter: what may wait for a bucket."""
        return await self._storing.run(tenant, partial(work, *args, **kwargs))

    async def manage(self, tenant: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what a management route of a tenant's asks for."""
        return await self._management.run(tenant, partial(work, *args, **kwargs))


class SharedThreads:
    """So many threads, of which one tenant has at most `most_each`."""

    def __init__(self, most: int, most_each: int) -> None:
        self._limiter = CapacityLimiter(most)
        self._most_each = most_each
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._using: Counter[str] = Counter()

    @property
    def tenants(self) -> frozenset[str]:
        """Those whose work is done or waits."""
        return frozenset(self._using) | frozenset(self._turns)

    async def run(self, tenant: str, work: Callable[[], T]) -> T:
        """Do a piece of a tenant's work."""
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
