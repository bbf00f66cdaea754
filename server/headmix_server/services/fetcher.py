"""Downloads artifacts to this machine before the engine is asked to read them.

Owns how many downloads run at once, which is next, and that all requests for one artifact wait for the same download.
It is cancelled when the last of them has left.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from headmix_server.catalog.bytes.store import Store
from headmix_server.core.types import AdapterRef
from headmix_server.services.turns import Turns


class Fetcher:
    """Used on one event loop. At most `at_once` downloads run; tenants take turns, and none gets all the slots."""

    def __init__(self, store: Store, at_once: int) -> None:
        self._store = store
        self._turns = Turns(at_once=at_once, most_each=max(1, at_once - 1))
        self._under_way: dict[str, _Download] = {}

    @property
    def waiting(self) -> int:
        """How many downloads wait for a slot; one that several tenants wait for counts once for each."""
        return self._turns.waiting

    @property
    def under_way(self) -> int:
        """How many downloads are in progress or wait for a slot."""
        return len(self._under_way)

    async def download(self, digest: str, tenant: str) -> None:
        """Return once the artifact's file is local. The caller must hold the artifact.

        Raises:
            HeadmixServerError: as `Store.download`.
        """
        if self._store.is_local(digest):
            return
        download = self._under_way.get(digest)
        if download is None:
            download = self._under_way[digest] = _Download(self._store, digest, self._turns, self._ended)
        await download.wait(tenant)

    async def download_all(self, refs: Iterable[AdapterRef]) -> None:
        """Return once the files of all these artifacts are local; they are downloaded side by side.

        Raises:
            HeadmixServerError: as `Store.download`; the first error ends the wait for the others.
        """
        tasks = [asyncio.ensure_future(self.download(ref.digest, ref.tenant)) for ref in refs if self._is_missing(ref)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def _is_missing(self, ref: AdapterRef) -> bool:
        return not self._store.is_local(ref.digest)

    def _ended(self, download: "_Download") -> None:
        if self._under_way.get(download.digest) is download:
            del self._under_way[download.digest]


class _Download:
    """The download of one artifact. It queues for each tenant that requests it, and starts at the first turn."""

    def __init__(self, store: Store, digest: str, turns: Turns, on_end: Callable[["_Download"], None]) -> None:
        self._store = store
        self.digest = digest
        self._turns = turns
        self._on_end = on_end
        self._asking: Counter[str] = Counter()
        self._lines: dict[str, asyncio.Task[None]] = {}
        self._begun = False
        self._result: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait(self, tenant: str) -> None:
        """Return once the download has ended, or raise its error."""
        self._asking[tenant] += 1
        if not self._begun and tenant not in self._lines:
            self._lines[tenant] = asyncio.create_task(self._take_turn(tenant))
        try:
            await asyncio.shield(self._result)
        finally:
            self._leave(tenant)

    def _leave(self, tenant: str) -> None:
        self._asking -= Counter([tenant])
        if self._result.done():
            return
        if not self._asking:
            self._on_end(self)  # later requests start a new download
            for line in self._lines.values():
                line.cancel()
        elif not self._begun and tenant not in self._asking:
            self._lines.pop(tenant).cancel()

    async def _take_turn(self, tenant: str) -> None:
        async with self._turns.turn(tenant):
            if self._begun:  # another tenant's turn came at the same moment
                return
            self._begun = True
            for other, line in self._lines.items():
                if other != tenant:
                    line.cancel()
            await self._load()

    async def _load(self) -> None:
        try:
            await self._store.download(self.digest)
        except Exception as error:  # noqa: BLE001 - any error is raised to all who wait
            self._result.set_exception(error)
            self._result.exception()  # mark it as retrieved: all may have left, and the store has logged it
        else:
            self._result.set_result(None)
        self._on_end(self)
