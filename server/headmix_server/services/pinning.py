"""Keeps pinned adapters on the device: the current version of every pinned name, in every engine that becomes ready.

The catalog records what is pinned; this enforces it. A name's former version is unpinned once the new one is on the
device, or cannot be loaded, since the former version's slot may be what is missing. Everything runs on one event loop,
and no pin here waits for another: one that waits for a slot may depend on the next being released.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from headmix_server.catalog.bytes.holds import HeldUntilEnd
from headmix_server.catalog.library import Library
from headmix_server.catalog.version import AdapterVersion
from headmix_server.core.errors import EngineUnavailable, ModelNotFound
from headmix_server.core.messages import AdapterLoaded, LoadAdapter
from headmix_server.core.observability.logging import get_logger
from headmix_server.engine_client.client import EngineClient
from headmix_server.services.fetcher import Fetcher

RETRY_SECONDS = 30.0

Name = tuple[str, str]
"""A tenant and the name of one of its adapters."""
Pin = tuple[str, str]
"""A tenant and the digest that one of its names refers to: the engine charges it to the tenant."""


class Pinning:
    """Pins in the engine what the catalog records as pinned, and holds its bytes.

    Call `catalog_changed` whenever that may have changed.

    Versions that could not be loaded are logged and retried after `retry_seconds`.
    """

    def __init__(
        self, engine: EngineClient, library: Library, fetcher: Fetcher, *, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        self._engine = engine
        self._library = library
        self._fetcher = fetcher
        self._retry_seconds = retry_seconds
        self._kept: dict[Pin, HeldUntilEnd] = {}  # what the engine may have pinned
        self._under_way: Counter[Pin] = Counter()  # what is being loaded onto the device
        self._wanted = frozenset[Pin]()  # what the catalog last reported as pinned
        self._pinned: dict[Name, str] = {}  # each name's digest on the device, in the engine that is ready
        self._following: dict[Name, tuple[str, asyncio.Task[None]]] = {}
        self._due = False
        self._looking: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._log = get_logger("pinning")
        engine.watch_ready(self._on_ready)

    async def pin(self, tenant: str, name: str, *, actor: str) -> AdapterVersion:
        """Load the name's current version onto the device and pin the name; if loading fails, nothing changes.

        Raises:
            ModelNotFound: it is not an adapter of this tenant's own.
            HeadmixServerError: as `Fetcher.download` and `EngineClient.ask`.
        """
        async with self._on_device(tenant, name) as version:
            add = asyncio.to_thread(self._library.catalog.pins.add, tenant, name, actor=actor)
            adding = asyncio.ensure_future(add)
            # The current version may have changed in the meantime, and the client may have disconnected.
            adding.add_done_callback(self._on_added)
            pinned = await asyncio.shield(adding)
            self._pinned[tenant, name] = version.digest
            return pinned

    def _on_added(self, adding: asyncio.Future[AdapterVersion]) -> None:
        if not adding.cancelled():
            adding.exception()  # the client, if still connected, gets it
        self.reconcile()

    def catalog_changed(self) -> None:
        """Reconcile the engine with the catalog soon; may be called from any thread.

        Without an engine there is nothing to do: a new one has nothing pinned, and is reconciled when it becomes ready.
        """
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop, and so the server, has ended
                self._loop.call_soon_threadsafe(self.reconcile)

    def reconcile(self) -> None:
        """Reconcile the engine with the catalog soon."""
        self._due = True
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_while_due())

    async def close(self) -> None:
        """Stop reconciling; what is pinned stays pinned until the engine ends."""
        for task in self._tasks():
            task.cancel()
        await self.drain()
        if self._retry is not None:
            self._retry.cancel()

    async def drain(self) -> None:
        """Wait until no work is in progress; scheduled retries are not waited for."""
        while tasks := self._tasks():
            await asyncio.gather(*tasks, return_exceptions=True)

    def _tasks(self) -> list[asyncio.Task[None]]:
        tasks = [task for _, task in self._following.values()]
        tasks += [] if self._looking is None else [self._looking]
        return [task for task in tasks if not task.done()]

    def _on_ready(self) -> None:
        """Start over: a new engine has nothing pinned."""
        self._loop = asyncio.get_running_loop()
        self._pinned.clear()
        self.reconcile()

    async def _look_while_due(self) -> None:
        while self._due and self._engine.ready is not None:
            self._due = False
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 - on any error, the pins are read again later
                self._log.error("pins cannot be read", reason=str(error))
                self._try_later()

    async def _look(self) -> None:
        before = set(self._pinned)
        found = await asyncio.to_thread(self._library.catalog.pins.current)
        wanted = {(version.tenant, version.name): version for version in found}
        self._wanted = frozenset((version.tenant, version.digest) for version in found)
        for name in before - wanted.keys():
            self._pinned.pop(name, None)
        for name in self._following.keys() - wanted.keys():
            self._following[name][1].cancel()
        for name, version in wanted.items():
            if self._pinned.get(name) != version.digest:
                self._start_following(name, version)
        self._let_go()

    def _start_following(self, name: Name, version: AdapterVersion) -> None:
        if name in self._following:
            digest, task = self._following[name]
            if digest == version.digest and not task.done():
                return
            task.cancel()
        task = asyncio.get_running_loop().create_task(self._follow(name, version))
        self._following[name] = (version.digest, task)
        task.add_done_callback(lambda done: self._ended(name, done))

    def _ended(self, name: Name, task: asyncio.Task[None]) -> None:
        if name in self._following and self._following[name][1] is task:
            del self._following[name]

    async def _follow(self, name: Name, version: AdapterVersion) -> None:
        """Pin the name's new current version in place of its former one."""
        try:
            async with self._on_device(version.tenant, version.reference):
                self._pinned[name] = version.digest
        except (EngineUnavailable, ModelNotFound):
            return  # a new engine, or a change of the name, starts this again
        except Exception as error:  # noqa: BLE001 - any error is retried
            self._log.error("a pinned adapter is not on the device", digest=version.digest, reason=str(error))
            if self._pinned.pop(name, None) is None:
                self._try_later()
            else:
                self._let_go()
                self.reconcile()

    @asynccontextmanager
    async def _on_device(self, tenant: str, model: str) -> AsyncIterator[AdapterVersion]:
        """Load a version onto the device, pinned; after the block it is unpinned unless it is wanted by then."""
        held = HeldUntilEnd()

        def hold() -> AdapterVersion:
            version, hold = self._library.hold(tenant, model)
            held.add(hold)  # in the thread: the awaiting task may be cancelled by now
            return version

        try:
            version = await asyncio.to_thread(hold)
        except BaseException:
            held.end()
            raise
        pin = (version.tenant, version.digest)
        if self._kept.setdefault(pin, held) is not held:
            held.end()
        self._under_way[pin] += 1
        try:
            await self._fetcher.download(version.digest, tenant)
            name = f"pin.{secrets.token_hex(8)}"
            await self._engine.ask(
                LoadAdapter(request_id=name, adapter=self._library.ref(version), pin=True), AdapterLoaded
            )
            yield version
        finally:
            self._under_way -= Counter([pin])
            self._let_go()

    def _let_go(self) -> None:
        """Unpin what no name wants any more; this is harmless for adapters that were never pinned."""
        pinned = ((tenant, digest) for (tenant, _), digest in self._pinned.items())
        wanted = self._wanted.union(pinned, self._under_way)
        for pin in self._kept.keys() - wanted:
            tenant, digest = pin
            self._engine.unpin(digest, tenant)
            self._kept.pop(pin).end()

    def _try_later(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._retry = asyncio.get_running_loop().call_later(self._retry_seconds, self.reconcile)
