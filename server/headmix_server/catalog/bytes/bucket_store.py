"""The store that keeps artifacts in a bucket, with local files for those in use.

Owns the order of the steps: an upload is complete and verified on this machine before it goes to the bucket, and a
download is verified before it gets its name.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, aclosing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from headmix_server.catalog.bytes.bucket import Bucket
from headmix_server.catalog.bytes.bucket_owner import BucketOwner
from headmix_server.catalog.bytes.cache import ArtifactCache
from headmix_server.catalog.bytes.store import ArtifactStore, Collected
from headmix_server.catalog.bytes.upload import Reserve, Upload, unreserved
from headmix_server.core.errors import ArtifactDamaged, StorageUnavailable
from headmix_server.core.observability.logging import get_logger

YOUNG = timedelta(hours=1)
"""How long unreferenced objects are kept: a server that is being replaced may be about to reference them."""


class BucketStore:
    """A `Store`. `owner` is the catalog's identity; `is_held` is true for artifacts in use (see `ArtifactCache`)."""

    def __init__(
        self,
        bucket: Bucket,
        folder: Path,
        *,
        owner: str,
        cache_bytes: int,
        is_held: Callable[[str], bool],
        young: timedelta = YOUNG,
    ) -> None:
        self._bucket = bucket
        self._owner = BucketOwner(bucket, owner)
        self._young = young
        self._files = ArtifactStore(folder)
        self._cache = ArtifactCache(self._files, cache_bytes, is_held)
        self._log = get_logger("artifacts")

    @property
    def cached_bytes(self) -> int:
        """The bytes of the local files."""
        return self._cache.size_bytes

    @contextmanager
    def receive(self, *, max_bytes: int, reserve: Reserve = unreserved) -> Iterator[Upload]:
        """As `Store.receive`."""
        with self._files.receive(max_bytes=max_bytes, reserve=reserve) as upload:
            yield upload

    def workspace(self) -> AbstractContextManager[Path]:
        """As `Store.workspace`."""
        return self._files.workspace()

    def commit(self, upload: Upload) -> Path:
        """As `Store.commit`: to the bucket first, then to the local files."""
        upload.finish()
        self._owner.require()
        self._bucket.put(upload.digest, upload.path)
        return self._cache.add(upload)

    def path(self, digest: str) -> Path:
        """As `Store.path`."""
        return self._files.path(digest)

    def is_local(self, digest: str) -> bool:
        """As `Store.is_local`."""
        return self._cache.use(digest)

    async def download(self, digest: str) -> None:
        """As `Store.download`."""
        if self._cache.use(digest):
            return
        size, blocks = await self._bucket.get(digest)
        # One thread, so that the file is closed only after a write that was in progress when the caller was cancelled.
        disk = ThreadPoolExecutor(1, "headmix-download")
        in_thread = partial(asyncio.get_running_loop().run_in_executor, disk)
        opened = ExitStack()
        try:
            async with aclosing(blocks):
                upload: Upload = await in_thread(opened.enter_context, self._files.receive(max_bytes=size))
                async for block in blocks:
                    await in_thread(upload.write, block)
            if upload.digest != digest:
                raise self._damaged(digest)
            await in_thread(self._cache.add, upload)
        finally:
            await in_thread(opened.close)
            disk.shutdown(wait=False)

    def _damaged(self, digest: str) -> ArtifactDamaged:
        self._log.error("an artifact in the store is damaged: upload it again", digest=digest)
        return ArtifactDamaged(f"The bytes of {digest} in the artifact store are damaged.")

    def delete(self, digest: str) -> None:
        """As `Store.delete`: in the bucket first, since what remains there would remain forever."""
        self._owner.require()
        self._bucket.delete(digest)
        self._cache.drop(digest)

    def collect(self, stored: Collection[str]) -> Collected:
        """As `Store.collect`; an unreachable bucket is left to the next start, since local files can still be served.

        Raises:
            BucketUnusable: it belongs to another catalog, or does not exist.
        """
        self._cache.start()
        for digest in frozenset(self._files.digests()).difference(stored):
            self._cache.drop(digest)
        try:
            self._owner.claim()
            there = dict(self._bucket.digests())
            oldest = datetime.now(UTC) - self._young
            leftovers = [digest for digest in sorted(there.keys() - set(stored)) if there[digest] <= oldest]
            for digest in leftovers:
                self._bucket.delete(digest)
        except StorageUnavailable:
            self._log.error("the artifact store cannot be reached: only adapters on this machine are served")
            return Collected((), ())
        return Collected(tuple(leftovers), tuple(sorted(set(stored) - there.keys())))
