"""Rates per minute: costs are taken from a tenant's window, and returned if less was used in the end.

The counts are in a storage of the library `limits`: this process's memory, or a Redis that outlives it. The library's
strategies are not used: they can neither return a cost nor compute when it will fit, and the exact one stores an entry
per token. While Redis does not respond, each server counts for itself; no request waits for Redis.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeVar
from urllib.parse import urlsplit

from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.errors import ConfigurationError, StorageError
from limits.storage import storage_from_string

from headmix_server.core.observability.logging import get_logger
from headmix_server.tenancy.limits.sliding_window import WINDOW_MS, Window

ANSWER_SECONDS = 0.5
"""How long a shared storage may take to respond."""
RETRY_SECONDS = 1.0
"""How long a storage that failed is not tried again."""
REDIS_PORT = 6379
TAKES = "it takes redis://host:6379/0, rediss:// with TLS, redis+unix:///path, redis+cluster:// or redis+sentinel://"
_KEPT_SECONDS = 180  # a window still counts during the next one

T = TypeVar("T")


class RateStorageError(Exception):
    """The storage cannot be used at all; the message does not show the URL's password."""


@dataclass(frozen=True, slots=True)
class Charge:
    """A cost that was taken, with the place where it was counted."""

    storage: Storage
    key: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of `take`. `charge` is None if the cost did not fit; it would after `wait` milliseconds.

    `remaining` is what could still be taken now, `reset` the milliseconds until the whole limit is available.
    """

    charge: Charge | None
    wait: int
    remaining: int
    reset: int


def open_storage(url: str) -> Storage:
    """Return the storage for a Redis URL: `redis://`, `rediss://`, `redis+unix://`, a cluster or sentinels.

    Raises:
        RateStorageError: it is not a Redis URL, or the redis library is missing.
    """
    if find_spec("redis") is None:
        raise RateStorageError("needs the library redis: pip install 'headmix[redis]'")
    try:
        storage = storage_from_string(f"async+{_with_port(url)}", implementation="redispy", wrap_exceptions=True)
    except (ConfigurationError, ValueError) as error:  # their messages may contain the password
        raise RateStorageError(f"cannot be read as the URL of a Redis; {TAKES}") from error
    if not isinstance(storage, Storage):
        raise TypeError("the library gave a storage for threads")
    return storage


def _with_port(url: str) -> str:
    """Return the URL of a single server with Redis's default port if it has none; other URLs are returned unchanged.

    Raises:
        ValueError: it is not a URL.
    """
    parts = urlsplit(url)
    if not parts.scheme.startswith("redis"):
        raise RateStorageError(f"is not the URL of a Redis; {TAKES}")
    if parts.scheme not in ("redis", "rediss"):
        return url
    number = parts.path.strip("/")
    if number and not number.isdecimal():
        raise RateStorageError(f"names the database {number!r}, and Redis numbers its databases; {TAKES}")
    if not parts.hostname or parts.port:
        return url
    return parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{REDIS_PORT}").geturl()


class Rates:
    """Every tenant's windows; used on one event loop. `clock` is in Unix seconds; `on_fallback` is called on failures.

    Costs of one window are added one after the other, so concurrent ones cannot exceed the limit together.
    """

    def __init__(
        self,
        shared: Storage | None = None,
        *,
        clock: Callable[[], float] = time.time,
        on_fallback: Callable[[], None] = lambda: None,
    ) -> None:
        self._shared = shared
        self._memory = MemoryStorage()
        self._clock = clock
        self._on_fallback = on_fallback
        self._retry_at = 0.0
        self._log = get_logger("limits")

    async def take(self, tenant: str, kind: str, cost: int, limit: int) -> Verdict:
        """Take a cost of at most `limit` from the tenant's window of this kind, or return when it will fit."""
        return await self._in_storage(lambda storage: self._take(storage, f"{tenant}/{kind}", cost, limit))

    async def give_back(self, charge: Charge, amount: int) -> None:
        """Return part of a cost to the window it was taken from."""
        if charge.storage is self._memory:
            await self._memory.incr(charge.key, _KEPT_SECONDS, -amount)
            return

        async def give_back(storage: Storage) -> None:
            if storage is charge.storage:  # what cannot be returned now expires with its window
                await storage.incr(charge.key, _KEPT_SECONDS, -amount)

        await self._in_storage(give_back)

    async def aclose(self) -> None:
        """Close the connections to the shared storage."""
        if self._shared is not None:
            from redis.asyncio import Redis, RedisCluster

            # The library opens connections but has no way to close them.
            bridge = self._shared.bridge if isinstance(self._shared, RedisStorage) else None
            client: object = bridge.get_connection() if isinstance(bridge, RedispyBridge) else None
            if isinstance(client, Redis | RedisCluster):
                await client.aclose()

    async def _take(self, storage: Storage, name: str, cost: int, limit: int) -> Verdict:
        index, position = divmod(int(self._clock() * 1000), WINDOW_MS)
        key = f"headmix/{name}/{index}"
        previous = max(0, await storage.get(f"headmix/{name}/{index - 1}"))
        window = Window(previous, max(0, await storage.get(key)), position)
        if window.fits(cost, limit):
            # Another server may have added its costs since: the count that the storage returns after adding decides.
            total = max(0, await storage.incr(key, _KEPT_SECONDS, cost))
            window = Window(previous, total, position)
            if window.fits(0, limit):
                return Verdict(Charge(storage, key), 0, window.remaining(limit), window.wait(limit, limit))
            window = Window(previous, max(0, await storage.incr(key, _KEPT_SECONDS, -cost)), position)
        wait = max(1, window.wait(cost, limit))
        return Verdict(None, wait, window.remaining(limit), window.wait(limit, limit))

    async def _in_storage(self, work: Callable[[Storage], Awaitable[T]]) -> T:
        if self._shared is not None and time.monotonic() >= self._retry_at:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await work(self._shared)
            except Exception as error:  # noqa: BLE001 - no request may fail because the shared count is unavailable
                self._retry_at = time.monotonic() + RETRY_SECONDS
                self._on_fallback()
                reason = error.storage_error if isinstance(error, StorageError) else error
                self._log.error("the limits storage does not respond", reason=f"{type(reason).__name__}: {reason}")
        return await work(self._memory)
