"""All tenants' files: their rows and bytes together.

Any number of processes use the files of one database at once, the server among them.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Engine, select, tuple_
from sqlalchemy.orm import Session

from headmix_server.catalog.bytes.upload import Upload
from headmix_server.catalog.quota import Quota, held_for_jobs
from headmix_server.catalog.tables import FileRow
from headmix_server.database import SERVER, audit, reading, writing
from headmix_server.files.bytes import BLOCK_BYTES, FileBytes, copy_verified
from headmix_server.files.record import record_file
from headmix_server.files.references import bury, find_file
from headmix_server.files.removal import Removal
from headmix_server.files.staging import Staging
from headmix_server.files.stored_file import Purpose, StoredFile, created_in, exists_now, read_file
from headmix_server.files.writer import BytesWriter

Source = Path | BinaryIO | Iterable[bytes]
_ANY_SIZE = 2**63 - 1


@dataclass(frozen=True, slots=True)
class DeletedFile:
    """What a file was, and how many of its bytes its tenant still pays for until its unfinished jobs end."""

    file: StoredFile
    held_by_jobs: int


@dataclass(frozen=True, slots=True)
class FilePage:
    """Some of a tenant's files, in order; `has_more` if others follow."""

    files: tuple[StoredFile, ...]
    has_more: bool


class Files:
    """Safe to use from many threads; methods block. `actor` is who the audit records as having made a change.

    `removes_bytes` is true in the server alone, which holds the database's lease.
    """

    def __init__(self, engine: Engine, stored: FileBytes, *, removes_bytes: bool = False) -> None:
        self._engine = engine
        self.bytes = stored
        self.writer = BytesWriter(engine, stored)
        self.removal = Removal(engine, stored, is_allowed=removes_bytes)

    # --- changes -------------------------------------------------------------------------------------------------

    def put(
        self,
        tenant: str,
        purpose: Purpose,
        filename: str,
        source: Source,
        *,
        expires: int | None = None,
        quota: Quota | None = None,
        actor: str = SERVER,
    ) -> StoredFile:
        """Store the bytes of a local file, an open one or an iterable as a file of the tenant's.

        Raises:
            RateLimitExceeded: the tenant would exceed its quota; a quota of None means no limit.
            InsufficientStorage, StorageUnavailable: nothing was stored.
        """
        with self._received(source) as upload:
            return self.add(tenant, purpose, filename, upload, expires=expires, quota=quota, actor=actor)

    def add(
        self,
        tenant: str,
        purpose: Purpose,
        filename: str,
        upload: Upload,
        *,
        expires: int | None = None,
        quota: Quota | None = None,
        actor: str = SERVER,
        also: Callable[[Session, StoredFile], None] = lambda _session, _file: None,
    ) -> StoredFile:
        """Make a received upload a file of the tenant's. `also` is called with it within the same transaction.

        Raises:
            RateLimitExceeded, InsufficientStorage, StorageUnavailable: as `put`.
        """

        def refer(session: Session) -> StoredFile:
            digest, size = upload.digest, upload.size_bytes
            made = record_file(
                session, tenant, purpose, filename, digest, size, expires=expires, quota=quota, actor=actor
            )
            also(session, made)
            return made

        try:
            return self.writer.write(tenant, upload, refer)
        finally:
            self.removal.run()

    @contextmanager
    def staging(self) -> Iterator[Staging]:
        """Yield a place for bytes without a file's row. Refer to them within the block: it removes the others."""
        staging = Staging(self.writer, self._received)
        try:
            yield staging
        finally:
            staging.end()
            self.removal.run()

    def delete(self, tenant: str, file_id: str, *, actor: str = SERVER) -> DeletedFile:
        """Delete a file, and its bytes unless others use them.

        Raises:
            NotFound: the tenant has no such file.
        """
        with writing(self._engine, tenant) as session:
            row = find_file(session, tenant, file_id)
            gone = read_file(row)
            session.delete(row)
            bury(session, gone.digest)
            audit(session, actor, tenant, "file.delete", gone.id, digest=gone.digest)
            held = held_for_jobs(session, tenant, gone.digest)
        self.removal.run()
        return DeletedFile(gone, held)

    @contextmanager
    def _received(self, source: Source) -> Iterator[Upload]:
        with self.bytes.receive(max_bytes=_ANY_SIZE) as upload:
            for block in _blocks(source):
                upload.write(block)
            yield upload

    # --- queries -------------------------------------------------------------------------------------------------

    def get(self, tenant: str, file_id: str) -> StoredFile:
        """Return a file.

        Raises:
            NotFound: the tenant has no such file.
        """
        with reading(self._engine) as session:
            return read_file(find_file(session, tenant, file_id))

    def list(
        self,
        tenant: str,
        *,
        purpose: str | None = None,
        after: str | None = None,
        limit: int = 100,
        newest_first: bool = True,
    ) -> FilePage:
        """Return the tenant's files by the time they were created, starting after the one with the id `after`.

        Raises:
            InvalidRequest: `after` is no id of a file; it need not exist any more.
        """
        key = tuple_(FileRow.created, FileRow.id)
        query = select(FileRow).where(FileRow.tenant == tenant, exists_now())
        if purpose is not None:
            query = query.where(FileRow.purpose == purpose)
        if after is not None:
            last = (created_in(after, param="after"), after)
            query = query.where(key < last if newest_first else key > last)
        order = (FileRow.created, FileRow.id)
        query = query.order_by(*(column.desc() if newest_first else column for column in order))
        with reading(self._engine) as session:
            found = [read_file(row) for row in session.scalars(query.limit(limit + 1))]
        return FilePage(tuple(found[:limit]), len(found) > limit)

    # --- bytes ---------------------------------------------------------------------------------------------------

    @contextmanager
    def open(self, tenant: str, file_id: str) -> Iterator[BinaryIO]:
        """Yield a local file with the bytes of a tenant's file.

        Raises:
            NotFound: the tenant has no such file.
            ArtifactDamaged, InsufficientStorage, StorageUnavailable: as `open_bytes`.
        """
        with self.open_bytes(self.get(tenant, file_id).digest) as file:
            yield file

    def open_bytes(self, digest: str) -> AbstractContextManager[BinaryIO]:
        """Yield a local file with stored bytes; call it in a thread without an event loop.

        Raises:
            ArtifactDamaged: they are missing or damaged.
            InsufficientStorage: the disk is full.
            StorageUnavailable: the store cannot be reached.
        """
        return self.bytes.open(digest)

    def fetch(self, digest: str, target: Path) -> None:
        """Copy stored bytes to a new local file, and verify them.

        Raises:
            ArtifactDamaged, InsufficientStorage, StorageUnavailable: as `open_bytes`; there is no file then.
        """
        with self.open_bytes(digest) as source:
            copy_verified(source, digest, target)


def _blocks(source: Source) -> Iterator[bytes]:
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield from _blocks(file)
    elif isinstance(source, Iterable) and not hasattr(source, "read"):
        yield from source
    else:
        while block := source.read(BLOCK_BYTES):
            yield block
