"""What refers to stored bytes: files, parts, checkpoints and holds; and bytes marked for removal, which nothing may.

These functions work within the caller's transaction. A tombstone is made in the transaction that removes the last
reference, and no reference is made while there is one: so bytes are only removed that nothing refers to, whichever
process dies when.
"""

import secrets
from collections.abc import Collection, Iterator, Mapping

from sqlalchemy import String, column, delete, select, table
from sqlalchemy.orm import Session

from headmix_server.catalog.tables import FileRow
from headmix_server.files.stored_file import StoredFile, exists_now, no_such_file, read_file
from headmix_server.files.tables import FileHoldRow, FileTombstoneRow, UploadPartRow

# The layer of jobs is above this one: here its table is only a name and a column.
_CHECKPOINTS = table("job_checkpoints", column("digest", String))
_AT_ONCE = 500
"""The most digests in one query."""


def referenced(session: Session, digests: Collection[str]) -> frozenset[str]:
    """Return those of the digests that anything refers to."""
    found = set[str]()
    for referring in (FileRow.digest, UploadPartRow.digest, FileHoldRow.digest, _CHECKPOINTS.c.digest):
        for some in _portions(digests):
            found.update(session.execute(select(referring).where(referring.in_(some)).distinct()).scalars())
    return frozenset(found)


def find_file(session: Session, tenant: str, file_id: str) -> FileRow:
    """Return the row of a tenant's file.

    Raises:
        NotFound: it has no such file, or no longer; another tenant's is found by no query.
    """
    row = session.scalar(select(FileRow).where(FileRow.id == file_id, FileRow.tenant == tenant, exists_now()))
    if row is None:
        raise no_such_file(file_id)
    return row


def hold_file(session: Session, tenant: str, file_id: str, *, holder: str) -> StoredFile:
    """Keep a file's bytes for a job, even if the file is deleted, until `release_holds` of the same holder.

    Raises:
        NotFound: the tenant has no such file.
    """
    found = read_file(find_file(session, tenant, file_id))
    keep_for_job(session, {found.digest: found.size_bytes}, job=holder)
    return found


def keep_for_job(session: Session, sizes: Mapping[str, int], *, job: str) -> None:
    """Keep stored bytes until the job ends, given the size of each digest; its tenant pays for them until then."""
    for digest, size in sizes.items():
        session.add(FileHoldRow(id=_new_id(), digest=digest, holder=job, size_bytes=size, expires=None))


def release_holds(session: Session, holder: str) -> None:
    """End what a holder kept; call it in the transaction that ends a job. Without any, it does nothing."""
    held = session.scalars(select(FileHoldRow.digest).where(FileHoldRow.holder == holder).distinct()).all()
    session.execute(delete(FileHoldRow).where(FileHoldRow.holder == holder))
    bury(session, *held)


def add_hold(session: Session, digest: str, *, holder: str, expires: int) -> str:
    """Add a process's hold on bytes that have no tombstone, and return its id."""
    hold = _new_id()
    session.add(FileHoldRow(id=hold, digest=digest, holder=holder, expires=expires))
    return hold


def bury(session: Session, *digests: str) -> None:
    """Mark those of the bytes for removal that nothing refers to; call it after a reference was removed."""
    session.flush()
    unused = set(digests) - referenced(session, set(digests))
    marked = with_tombstones(session, unused)
    session.add_all(FileTombstoneRow(digest=digest) for digest in sorted(unused - marked))
    session.flush()


def with_tombstones(session: Session, digests: Collection[str]) -> frozenset[str]:
    """Return those of the digests that are marked for removal."""
    found = set[str]()
    for some in _portions(digests):
        found.update(session.scalars(select(FileTombstoneRow.digest).where(FileTombstoneRow.digest.in_(some))))
    return frozenset(found)


def _new_id() -> str:
    return secrets.token_hex(16)


def _portions(digests: Collection[str]) -> Iterator[list[str]]:
    every = sorted(digests)
    for start in range(0, len(every), _AT_ONCE):
        yield every[start : start + _AT_ONCE]
