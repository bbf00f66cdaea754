"""The store that keeps files' bytes in a bucket, below their own prefix. What is read blockwise never touches the disk.

Owns the order of the steps: bytes are complete on this machine before they go to the bucket, and verified after they
came from it.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from headmix_server.catalog.bytes.bucket import Bucket
from headmix_server.catalog.bytes.bucket_owner import BucketOwner
from headmix_server.catalog.bytes.store import ArtifactStore
from headmix_server.catalog.bytes.upload import Reserve, Upload, unreserved
from headmix_server.core.errors import ArtifactDamaged
from headmix_server.files.bytes import KIND, missing, remove_abandoned, require

PREFIX = "files/sha256"
"""The folder of files' bytes below the bucket's prefix."""


class BucketBytes:
    """A `FileBytes` in a bucket of the catalog `owner`; `folder` is for files on this machine while they are needed."""

    def __init__(self, bucket: Bucket, folder: Path, *, owner: str) -> None:
        self._bucket = bucket
        self._owner = BucketOwner(bucket, owner)
        self._files = ArtifactStore(folder, suffix="", kind=KIND)

    def receive(self, *, max_bytes: int, reserve: Reserve = unreserved) -> AbstractContextManager[Upload]:
        """As `FileBytes.receive`."""
        return self._files.receive(max_bytes=max_bytes, reserve=reserve)

    def commit(self, upload: Upload) -> None:
        """As `FileBytes.commit`."""
        upload.finish()
        self._owner.require()
        self._bucket.put(upload.digest, upload.path)

    @contextmanager
    def open(self, digest: str) -> Iterator[BinaryIO]:
        """As `FileBytes.open`: a copy on this machine, for as long as the block lasts."""
        with self._files.receive(max_bytes=2**63 - 1) as copy:
            asyncio.run(self._download(digest, copy))
            copy.finish()
            with copy.path.open("rb") as file:
                yield file

    async def _download(self, digest: str, copy: Upload) -> None:
        async with aclosing(await self.blocks(digest)) as blocks:
            async for block in blocks:
                copy.write(block)

    async def blocks(self, digest: str) -> AsyncGenerator[bytes, None]:
        """As `FileBytes.blocks`."""
        try:
            _, blocks = await self._bucket.get(digest)
        except ArtifactDamaged as error:
            raise missing(digest) from error
        return self._read(digest, blocks)

    async def _read(self, digest: str, blocks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        found = hashlib.sha256()
        async with aclosing(blocks):
            last = b""
            async for block in blocks:
                found.update(block)
                if last:
                    yield last
                last = block
        require(digest, f"sha256:{found.hexdigest()}")
        yield last

    def delete(self, digest: str) -> None:
        """As `FileBytes.delete`."""
        self._owner.require()
        self._bucket.delete(digest)

    def digests(self) -> Iterator[tuple[str, datetime]]:
        """As `FileBytes.digests`."""
        return self._bucket.digests()

    def remove_abandoned(self, *, before: datetime) -> int:
        """As `FileBytes.remove_abandoned`."""
        return remove_abandoned(self._files, before)
