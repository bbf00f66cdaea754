"""Where files' bytes are: the interface, and the store that is a folder.

    <root>/sha256/ab/<64 hex digits>    the bytes of a file, an upload's part or a job's checkpoint; only ever removed
    <root>/incoming/<random>            bytes that are incomplete or not committed yet

Several processes write at once: bytes get their name when they are complete, and writing them again changes nothing.
Only the server removes any. A store knows neither rows nor tenants.
"""

import hashlib
import shutil
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from anyio import to_thread

from headmix_server.catalog.bytes.store import ArtifactStore
from headmix_server.catalog.bytes.upload import Reserve, Upload, unreserved
from headmix_server.core.errors import ArtifactDamaged

BLOCK_BYTES = 1 << 20
KIND = "file"


class FileBytes(Protocol):
    """Bytes by digest. Methods other than `blocks` block, and may be called by any thread.

    Each may raise StorageUnavailable if the store is remote and cannot be reached.
    """

    def receive(self, *, max_bytes: int, reserve: Reserve = unreserved) -> AbstractContextManager[Upload]:
        """Yield an upload to write into, on this machine; it is discarded at the end unless committed.

        Raises:
            InsufficientStorage: the disk is full.
        """

    def commit(self, upload: Upload) -> None:
        """Store the upload's bytes under their digest; the same bytes may be there already.

        Raises:
            InsufficientStorage: the disk is full.
        """

    def open(self, digest: str) -> AbstractContextManager[BinaryIO]:
        """Yield a local file with these bytes.

        Raises:
            ArtifactDamaged: they are missing, or do not match the digest.
            InsufficientStorage: the disk is full.
        """

    async def blocks(self, digest: str) -> AsyncGenerator[bytes, None]:
        """Return the bytes in blocks. Damaged ones raise ArtifactDamaged in place of the last block.

        Raises:
            ArtifactDamaged: they are missing.
        """

    def delete(self, digest: str) -> None:
        """Remove the bytes if they exist; readers that have them open can finish reading."""

    def digests(self) -> Iterator[tuple[str, datetime]]:
        """Yield the digest of all bytes, with the time when they were last written."""

    def remove_abandoned(self, *, before: datetime) -> int:
        """Remove what processes that died left on this machine, unless it is newer; return the number of files."""


class FolderBytes:
    """A `FileBytes` in a folder, which is created."""

    def __init__(self, root: Path) -> None:
        self._files = ArtifactStore(root, suffix="", kind=KIND)

    def receive(self, *, max_bytes: int, reserve: Reserve = unreserved) -> AbstractContextManager[Upload]:
        """As `FileBytes.receive`."""
        return self._files.receive(max_bytes=max_bytes, reserve=reserve)

    def commit(self, upload: Upload) -> None:
        """As `FileBytes.commit`."""
        self._files.commit(upload)

    @contextmanager
    def open(self, digest: str) -> Iterator[BinaryIO]:
        """As `FileBytes.open`."""
        with self._open(digest) as file:
            yield file

    def _open(self, digest: str) -> BinaryIO:
        try:
            return self._files.path(digest).open("rb")
        except FileNotFoundError as error:
            raise missing(digest) from error

    async def blocks(self, digest: str) -> AsyncGenerator[bytes, None]:
        """As `FileBytes.blocks`."""
        return self._read(digest, await to_thread.run_sync(self._open, digest))

    async def _read(self, digest: str, file: BinaryIO) -> AsyncGenerator[bytes, None]:
        found = hashlib.sha256()

        def read() -> bytes:
            block = file.read(BLOCK_BYTES)
            found.update(block)
            return block

        with file:
            last = b""
            while block := await to_thread.run_sync(read):
                if last:
                    yield last
                last = block
        require(digest, f"sha256:{found.hexdigest()}")
        yield last

    def delete(self, digest: str) -> None:
        """As `FileBytes.delete`."""
        self._files.delete(digest)

    def digests(self) -> Iterator[tuple[str, datetime]]:
        """As `FileBytes.digests`."""
        for digest in self._files.digests():
            with suppress(FileNotFoundError):  # removed in the meantime
                yield digest, datetime.fromtimestamp(self._files.path(digest).stat().st_mtime, UTC)

    def remove_abandoned(self, *, before: datetime) -> int:
        """As `FileBytes.remove_abandoned`."""
        return remove_abandoned(self._files, before)


def remove_abandoned(files: ArtifactStore, before: datetime) -> int:
    """Remove a folder's unfinished uploads of before a time, and return how many there were."""
    left = list(files.abandoned(before=before.timestamp()))
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(left)


def missing(digest: str) -> ArtifactDamaged:
    """Return the error for bytes that should be there."""
    return ArtifactDamaged(f"The file's bytes, {digest}, are missing in the store: upload it again.")


def require(digest: str, found: str) -> None:
    """Refuse bytes that are not those of the digest.

    Raises:
        ArtifactDamaged: they differ.
    """
    if found != digest:
        raise ArtifactDamaged(f"The file's bytes, {digest}, are damaged in the store: upload it again.")


def copy_verified(source: BinaryIO, digest: str, target: Path) -> None:
    """Copy the bytes of a digest to a new file.

    Raises:
        ArtifactDamaged: they differ; there is no file then.
        InsufficientStorage: the disk is full; there is no file then.
    """
    copy = Upload(target, 2**63 - 1, kind=KIND)
    try:
        while block := source.read(BLOCK_BYTES):
            copy.write(block)
        require(digest, copy.digest)
        copy.finish()
    except BaseException:
        copy.discard()
        raise
