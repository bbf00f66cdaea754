"""Bringing artifacts to this machine before the engine is asked to read them.

Owns how many downloads run at once and that two requests for one artifact wait for the same. Only who asks waits.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from headmix_server.catalog.store import Store

AT_ONCE = 4


class Fetcher:
    """Used on one event loop. A download whose every asker has left goes on: another will come."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(AT_ONCE, "headmix-fetch")
        self._under_way: dict[str, asyncio.Future[None]] = {}

    async def fetch(self, digest: str) -> None:
        """Return once the artifact's file is here; hold the artifact first.

        Raises:
            HeadmixServerError: as `Store.fetch`.
        """
        if self._store.is_local(digest):
            return
        download = self._under_way.get(digest)
        if download is None:
            download = asyncio.get_running_loop().run_in_executor(self._threads, self._store.fetch, digest)
            self._under_way[digest] = download
            download.add_done_callback(lambda done: self._ended(digest, done))
        await asyncio.shield(download)

    def _ended(self, digest: str, download: asyncio.Future[None]) -> None:
        del self._under_way[digest]
        if not download.cancelled():
            download.exception()  # its askers may all be gone; the store has logged it
