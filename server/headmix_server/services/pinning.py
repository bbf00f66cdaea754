"""Keeps on the device what is pinned: the current version of every pinned name, in every engine that becomes ready.

The catalog says what is pinned; this sees to it. A name's former version is let go once the new one is on the device,
or cannot be brought there: then its place may be what was missing. Everything runs on one event loop, and nothing here
waits for another pin: one that waits for a slot may be waiting for the next to be let go.
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
"""A tenant and the digest that a name of its means: what the engine charges to it."""


class Pinning:
    """Pins in the engine what the catalog says, and holds its bytes.

    `catalog_changed` is to be called whenever that may have changed.

    What could not be brought to the device is logged and tried again after `retry_seconds`.
    """

    def __init__(
        self, engine: EngineClient, library: Library, fetcher: Fetcher, *, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        self._engine = engine
        self._library = library
        self._fetcher = fetcher
        self._retry_seconds = retry_seconds
        self._kept: dict[Pin, HeldUntilEnd] = {}  # what the engine may have pinned
        self._under_way: Counter[Pin] = Counter()  # what is on its way to the device
        self._wanted = frozenset[Pin]()  # what the catalog said last is pinned
        self._pinned: dict[Name, str] = {}  # the digest on the device for each name, in the engine that is ready
        self._following: dict[Name, tuple[str, asyncio.Task[None]]] = {}
        self._due = False
        self._looking: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._log = get_logger("pinning")
        engine.watch_ready(self._on_ready)

    async def pin(self, tenant: str, name: str, *, actor: str) -> AdapterVersion:
        """Bring the name's current version to the device and pin the name; where the first fails nothing changes.

        Raises:
            ModelNotFound: not an adapter of this tenant's own.
            HeadmixServerError: as `Fetcher.download` and `EngineClient.ask`.
        """
        async with self._on_device(tenant, name) as version:
            add = asyncio.to_thread(self._library.catalog.pins.add, tenant, name, actor=actor)
            adding = asyncio.ensure_future(add)
            # The current version may have changed meanwhile, and the client may have disconnected.
            adding.add_done_callback(self._on_added)
            pinned = await asyncio.shield(adding)
            self._pinned[tenant, name] = version.digest
            return pinned

    def _on_added(self, adding: asyncio.Future[AdapterVersion]) -> None:
        if not adding.cancelled():
            adding.exception()  # the client, if still connected, gets it
        self.reconcile()

    def catalog_changed(self) -> None:
        """Bring the engine in line with the catalog, soon; any thread may call it.

        Without an engine there is nothing to do: one that becomes ready has nothing pinned, and is brought in line.
        """
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and the server with it
                self._loop.call_soon_threadsafe(self.reconcile)

    def reconcile(self) -> None:
        """Bring the engine in line with the catalog, soon."""
        self._due = True
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_while_due())

    async def close(self) -> None:
        """Stop looking; what is pinned stays so until the engine ends."""
        for task in self._tasks():
            task.cancel()
        await self.drain()
        if self._retry is not None:
            self._retry.cancel()

    async def drain(self) -> None:
        """Wait until nothing is in progress; what is tried again later is not waited for."""
        while tasks := self._tasks():
            await asyncio.gather(*tasks, return_exceptions=True)

    def _tasks(self) -> list[asyncio.Task[None]]:
        tasks = [task for _, task in self._following.values()]
        tasks += [] if self._looking is None else [self._looking]
        return [task for task in tasks if not task.done()]

    def _on_ready(self) -> None:
        """A new engine has nothing pinned."""
        self._loop = asyncio.get_running_loop()
        self._pinned.clear()
        self.reconcile()

    async def _look_while_due(self) -> None:
        while self._due and self._engine.ready is not None:
            self._due = False
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 - whatever it is, what is pinned is looked at again
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
        """Pin what has become the name's current version in the place of the one before."""
        try:
            async with self._on_device(version.tenant, version.reference):
                self._pinned[name] = version.digest
        except (EngineUnavailable, ModelNotFound):
            return  # the next engine, and what has become of the name, bring us back here
        except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
            self._log.error("a pinned adapter is not on the device", digest=version.digest, reason=str(error))
            if self._pinned.pop(name, None) is None:
                self._try_later()
            else:
                self._let_go()
                self.reconcile()

    @asynccontextmanager
    async def _on_device(self, tenant: str, model: str) -> AsyncIterator[AdapterVersion]:
        """Bring a version to the device, pinned; after the block it is let go unless it is wanted by then."""
        held = HeldUntilEnd()

        def hold() -> AdapterVersion:
            version, hold = self._library.hold(tenant, model)
            held.add(hold)  # here, not where it is awaited: that one may be gone by now
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
        """Unpin whatever no name wants any more; an adapter that was never pinned is not harmed."""
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
