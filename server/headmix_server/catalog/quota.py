"""A tenant's quota, checked within the transaction that uses it, so that no two uploads share the last place.

A tenant pays once for each of its artifacts, however many of its names and versions have these bytes, and until the
bytes are freed. It also pays once for the bytes of its files, and for what an upload in parts announced.
"""

import time
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import Session

from headmix_server.catalog.queries import OF_ADAPTER
from headmix_server.catalog.tables import AdapterRow, FileRow, UploadRow, VersionRow
from headmix_server.core.errors import RateLimitExceeded


@dataclass(frozen=True, slots=True)
class Quota:
    """The maximum adapters (names) and bytes of a tenant; 0 means no limit."""

    adapters: int = 0
    stored_bytes: int = 0

    def check(self, session: Session, tenant: str, digest: str, size_bytes: int, *, is_new_name: bool) -> None:
        """Refuse another version with this artifact if the tenant would exceed its quota.

        Raises:
            RateLimitExceeded: it would.
        """
        if is_new_name and self.adapters:
            self._check_adapters(session, tenant)
        if self.stored_bytes and not _has(session, _own_artifacts(tenant, VersionRow.digest == digest)):
            self.check_bytes(stored_bytes(session, tenant), size_bytes)

    def check_file(self, session: Session, tenant: str, digest: str, size_bytes: int) -> None:
        """Refuse another file with these bytes if the tenant would exceed its quota.

        Raises:
            RateLimitExceeded: it would.
        """
        if self.stored_bytes and not _has(session, _own_files(tenant, FileRow.digest == digest)):
            self.check_bytes(stored_bytes(session, tenant), size_bytes)

    def check_bytes(self, stored: int, more: int) -> None:
        """Refuse more bytes than there is room for.

        Raises:
            RateLimitExceeded: there is not enough room.
        """
        if self.stored_bytes and stored + more > self.stored_bytes:
            raise bytes_exceeded(self, stored, more)

    def _check_adapters(self, session: Session, tenant: str) -> None:
        there = select(func.count()).where(AdapterRow.tenant == tenant, AdapterRow.current.is_not(None))
        count = session.scalars(there).one()
        if count >= self.adapters:
            raise RateLimitExceeded(
                f"The tenant may have {self.adapters} adapters and has {count}. Delete one first.",
                limit="adapters",
                param="name",
            )


@dataclass(frozen=True, slots=True)
class Room:
    """How many bytes a tenant stores, and how many bytes of an upload may turn out to be stored already."""

    stored: int
    repeatable: int


def bytes_exceeded(
    quota: Quota, stored: int, more: int, *, arriving: int = 0, retry_after: int | None = None
) -> RateLimitExceeded:
    """Return the error for bytes that exceed the quota, together with those of other uploads that are `arriving`."""
    beside = f", {arriving} of other uploads are arriving" if arriving else ""
    return RateLimitExceeded(
        f"The tenant may store {quota.stored_bytes} bytes: it stores {stored}{beside}, and these are {more} more."
        + ("" if retry_after else " Delete an adapter or a file first."),
        limit="stored_bytes",
        param="file",
        retry_after=retry_after,
    )


PENDING = "pending"
"""The state of an upload in parts that is neither complete nor cancelled."""


def stored_bytes(session: Session, tenant: str) -> int:
    """Return how many bytes the tenant pays for."""
    pending = select(func.coalesce(func.sum(UploadRow.size_bytes), 0)).where(
        UploadRow.tenant == tenant, UploadRow.state == PENDING, UploadRow.expires > int(time.time())
    )
    return (
        _sum(session, _own_artifacts(tenant)) + _sum(session, _own_files(tenant)) + int(session.scalars(pending).one())
    )


def read_room(session: Session, tenant: str, *, least: int, most: int | None, of_files: bool = False) -> Room:
    """Return what a tenant stores, for an upload of `least` to `most` bytes; `most` None means any size.

    An upload with the possible size of one of the tenant's artifacts, or of its files for an upload `of_files`, may be
    the same bytes, which cost nothing more.
    """
    size = FileRow.size_bytes if of_files else VersionRow.size_bytes
    sizes = size >= least if most is None else size.between(least, most)
    own = (_own_files(tenant, sizes) if of_files else _own_artifacts(tenant, sizes)).subquery()
    largest = session.scalar(select(func.max(own.c.size_bytes)))
    return Room(stored_bytes(session, tenant), 0 if largest is None else max(largest, most or 0))


def check_upload(session: Session, tenant: str, quota: Quota, *, least: int, most: int, of_files: bool = False) -> None:
    """Refuse an upload of `least` to `most` bytes that certainly exceeds the quota.

    Raises:
        RateLimitExceeded: it does.
    """
    room = read_room(session, tenant, least=least, most=most, of_files=of_files)
    if not room.repeatable:
        quota.check_bytes(room.stored, least)


def _own_artifacts(tenant: str, *where: ColumnElement[bool]) -> Select[str, int]:
    """Select digest and size of each artifact that a version of the tenant refers to, including tombstones."""
    return (
        select(VersionRow.digest, VersionRow.size_bytes)
        .join(AdapterRow, OF_ADAPTER)
        .where(AdapterRow.tenant == tenant, *where)
        .distinct()
    )


def _own_files(tenant: str, *where: ColumnElement[bool]) -> Select[str, int]:
    """Select digest and size of the bytes of each of the tenant's files, without those that have expired."""
    live = or_(FileRow.expires.is_(None), FileRow.expires > int(time.time()))
    return select(FileRow.digest, FileRow.size_bytes).where(FileRow.tenant == tenant, live, *where).distinct()


def _has(session: Session, own: Select[str, int]) -> bool:
    return session.execute(own.limit(1)).first() is not None


def _sum(session: Session, own: Select[str, int]) -> int:
    each = own.subquery()
    return int(session.scalars(select(func.coalesce(func.sum(each.c.size_bytes), 0))).one())
