"""How much a tenant may keep: asked within the transaction that would keep more, so no two uploads share a last place.

A tenant pays for each of its artifacts once, whatever the number of its names and versions that are these bytes, and
until the bytes are freed.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from headmix_server.catalog.queries import OF_ADAPTER
from headmix_server.catalog.tables import AdapterRow, VersionRow
from headmix_server.core.errors import RateLimitExceeded


@dataclass(frozen=True, slots=True)
class Quota:
    """How many adapters (names) and bytes a tenant may have; 0 is no limit."""

    adapters: int = 0
    stored_bytes: int = 0

    def check(self, session: Session, tenant: str, digest: str, size_bytes: int, *, is_new_name: bool) -> None:
        """Refuse one more version of this artifact where the tenant would have too much.

        Raises:
            RateLimitExceeded: it would.
        """
        if is_new_name and self.adapters:
            self._check_adapters(session, tenant)
        if self.stored_bytes and not _has(session, tenant, digest):
            self.check_bytes(stored_bytes(session, tenant), size_bytes)

    def check_bytes(self, stored: int, more: int) -> None:
        """Refuse more bytes than there is room for.

        Raises:
            RateLimitExceeded: there is none.
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
    """Return the error of bytes that are too many, next to those of other uploads that are `arriving`."""
    beside = f", {arriving} of other uploads are arriving" if arriving else ""
    return RateLimitExceeded(
        f"The tenant may store {quota.stored_bytes} bytes: it stores {stored}{beside}, and these are {more} more."
        + ("" if retry_after else " Delete an adapter first."),
        limit="stored_bytes",
        param="file",
        retry_after=retry_after,
    )


def _has(session: Session, tenant: str, digest: str) -> bool:
    return session.execute(_own_artifacts(tenant, VersionRow.digest == digest).limit(1)).first() is not None


def stored_bytes(session: Session, tenant: str) -> int:
    """Return how many bytes the tenant pays for."""
    each = _own_artifacts(tenant).subquery()
    return int(session.scalars(select(func.coalesce(func.sum(each.c.size_bytes), 0))).one())


def read_room(session: Session, tenant: str, *, least: int, most: int | None) -> Room:
    """Return what a tenant stores, for an upload of `least` to `most` bytes; None is of any size.

    One whose size may be that of an artifact of the tenant's may be these very bytes, which cost nothing again.
    """
    sizes = [VersionRow.size_bytes >= least] if most is None else [VersionRow.size_bytes.between(least, most)]
    own = _own_artifacts(tenant, *sizes).subquery()
    largest = session.scalar(select(func.max(own.c.size_bytes)))
    return Room(stored_bytes(session, tenant), 0 if largest is None else max(largest, most or 0))


def check_upload(session: Session, tenant: str, quota: Quota, *, least: int, most: int) -> None:
    """Refuse an upload of `least` to `most` bytes that is too much whatever it holds.

    Raises:
        RateLimitExceeded: it is too much.
    """
    room = read_room(session, tenant, least=least, most=most)
    if not room.repeatable:
        quota.check_bytes(room.stored, least)


def _own_artifacts(tenant: str, *where: ColumnElement[bool]) -> Select[str, int]:
    """Select digest and size of each artifact that a version of the tenant's refers to, those of tombstones too."""
    return (
        select(VersionRow.digest, VersionRow.size_bytes)
        .join(AdapterRow, OF_ADAPTER)
        .where(AdapterRow.tenant == tenant, *where)
        .distinct()
    )
