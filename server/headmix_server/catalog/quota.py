"""A tenant's quota, checked within the transaction that uses it, so that no two uploads share the last place.

A tenant pays once for the bytes of each digest, however many of its versions, files and unfinished jobs have them, and
until the last of these has let go of them. It also pays for what an upload in parts announced.
"""

import time
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    String,
    Subquery,
    case,
    cast,
    column,
    func,
    literal,
    or_,
    select,
    table,
    union_all,
)
from sqlalchemy.orm import Session

from headmix_server.catalog.queries import OF_ADAPTER
from headmix_server.catalog.tables import AdapterRow, FileRow, UploadRow, VersionRow
from headmix_server.core.errors import RateLimitExceeded

# The layers of files and jobs are above this one: here their tables are only names and columns.
_JOBS = table("jobs", column("id", String), column("tenant", String), column("state", String))
_HOLDS = table("file_holds", column("holder", String), column("digest", String), column("size_bytes", BigInteger))
_CHECKPOINTS = table(
    "job_checkpoints", column("job_id", String), column("digest", String), column("size_bytes", BigInteger)
)
UNFINISHED = ("validating", "queued", "running", "paused", "publishing")
"""The states of jobs that keep bytes. Listed, and not those of an end excluded, so that an index finds them."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The bytes that a tenant pays for, and how many of them only its unfinished jobs keep."""

    size_bytes: int
    for_jobs: int = 0


@dataclass(frozen=True, slots=True)
class Quota:
    """The maximum adapters (names) and bytes of a tenant; 0 means no limit."""

    adapters: int = 0
    stored_bytes: int = 0

    def check(self, session: Session, tenant: str, digest: str, size_bytes: int, *, is_new_name: bool) -> None:
        """Refuse another version with this artifact if the tenant would exceed its quota.

        A trained artifact that is published counts already, for its job: so no training is lost to a quota of bytes.

        Raises:
            RateLimitExceeded: it would.
        """
        if is_new_name:
            self.check_new_name(session, tenant)
        self.check_file(session, tenant, digest, size_bytes)

    def check_file(self, session: Session, tenant: str, digest: str, size_bytes: int) -> None:
        """Refuse another file with these bytes if the tenant would exceed its quota.

        Raises:
            RateLimitExceeded: it would.
        """
        if self.stored_bytes and not _has(session, tenant, digest):
            self.check_bytes(read_stored(session, tenant), size_bytes)

    def check_bytes(self, stored: Stored, more: int) -> None:
        """Refuse more bytes than there is room for.

        Raises:
            RateLimitExceeded: there is not enough room.
        """
        if self.stored_bytes and stored.size_bytes + more > self.stored_bytes:
            raise bytes_exceeded(self, stored, more)

    def check_new_job(self, session: Session, tenant: str) -> None:
        """Refuse a job if the tenant has no room left: what a job stores later is never refused.

        Raises:
            RateLimitExceeded: it has none.
        """
        if self.stored_bytes and (stored := read_stored(session, tenant)).size_bytes >= self.stored_bytes:
            raise RateLimitExceeded(
                f"The tenant may store {self.stored_bytes} bytes and stores {_shown(stored)}: there is no room for "
                f"results. {_advice(stored)}",
                limit="stored_bytes",
            )

    def check_new_name(self, session: Session, tenant: str) -> None:
        """Refuse another adapter name if the tenant has as many as it may.

        Raises:
            RateLimitExceeded: it has.
        """
        if not self.adapters:
            return
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
    """What a tenant stores, and how many bytes of an upload may turn out to be stored already."""

    stored: Stored
    repeatable: int


def bytes_exceeded(
    quota: Quota, stored: Stored, more: int, *, arriving: int = 0, retry_after: int | None = None
) -> RateLimitExceeded:
    """Return the error for bytes that exceed the quota, together with those of other uploads that are `arriving`."""
    beside = f", {arriving} of other uploads are arriving" if arriving else ""
    return RateLimitExceeded(
        f"The tenant may store {quota.stored_bytes} bytes: it stores {_shown(stored)}{beside}, and these are {more} "
        f"more.{'' if retry_after else f' {_advice(stored)}'}",
        limit="stored_bytes",
        param="file",
        retry_after=retry_after,
    )


def _shown(stored: Stored) -> str:
    until = f" ({stored.for_jobs} of them only until unfinished jobs end)" if stored.for_jobs else ""
    return f"{stored.size_bytes}{until}"


def _advice(stored: Stored) -> str:
    return f"Delete an adapter or a file first{', or cancel a job' if stored.for_jobs else ''}."


PENDING = "pending"
"""The state of an upload in parts that is neither complete nor cancelled."""


def read_stored(session: Session, tenant: str) -> Stored:
    """Return what the tenant pays for."""
    own = _own(tenant)
    each = (
        select(func.max(own.c.size_bytes).label("size_bytes"), func.min(own.c.for_job).label("for_job"))
        .group_by(own.c.digest)
        .subquery()
    )
    for_jobs = case((each.c.for_job == 1, each.c.size_bytes), else_=0)
    size, kept = session.execute(
        select(func.coalesce(func.sum(each.c.size_bytes), 0), func.coalesce(func.sum(for_jobs), 0))
    ).one()
    pending = select(func.coalesce(func.sum(UploadRow.size_bytes), 0)).where(
        UploadRow.tenant == tenant, UploadRow.state == PENDING, UploadRow.expires > int(time.time())
    )
    return Stored(int(size) + int(session.scalars(pending).one()), int(kept))


def held_for_jobs(session: Session, tenant: str, digest: str) -> int:
    """Return how many bytes of this digest the tenant pays for until its unfinished jobs end; 0 if no job has it."""
    own = _own(tenant)
    held = select(func.max(own.c.size_bytes)).where(own.c.digest == digest, own.c.for_job == 1)
    return session.scalar(held) or 0


def read_room(session: Session, tenant: str, *, least: int, most: int | None) -> Room:
    """Return what a tenant stores, for an upload of `least` to `most` bytes; `most` None means any size.

    An upload with the possible size of bytes that the tenant pays for may be the same bytes, which cost nothing more.
    """
    own = _own(tenant)
    size = own.c.size_bytes
    sizes = size >= least if most is None else size.between(least, most)
    largest = session.scalar(select(func.max(size)).where(sizes))
    return Room(read_stored(session, tenant), 0 if largest is None else max(largest, most or 0))


def check_upload(session: Session, tenant: str, quota: Quota, *, least: int, most: int) -> None:
    """Refuse an upload of `least` to `most` bytes that certainly exceeds the quota.

    Raises:
        RateLimitExceeded: it does.
    """
    room = read_room(session, tenant, least=least, most=most)
    if not room.repeatable:
        quota.check_bytes(room.stored, least)


def _own(tenant: str) -> Subquery:
    """Select digest and size of all bytes that the tenant pays for, once for each use of them.

    `for_job` is 1 where the use is a job's, and 0 otherwise.
    """
    return union_all(_artifacts(tenant), _files(tenant), _kept_for_jobs(tenant), _checkpoints(tenant)).subquery()


def _artifacts(tenant: str) -> Select[str, int, int]:
    """Select the artifacts that versions of the tenant refer to, including tombstones."""
    query = select(VersionRow.digest, VersionRow.size_bytes, _for_job(0))
    return query.join(AdapterRow, OF_ADAPTER).where(AdapterRow.tenant == tenant)


def _files(tenant: str) -> Select[str, int, int]:
    """Select the tenant's files, without those that have expired."""
    live = or_(FileRow.expires.is_(None), FileRow.expires > int(time.time()))
    return select(FileRow.digest, FileRow.size_bytes, _for_job(0)).where(FileRow.tenant == tenant, live)


def _kept_for_jobs(tenant: str) -> Select[str, int, int]:
    """Select the files that unfinished jobs read, and results that are not published yet."""
    of_job = _HOLDS.c.holder == _JOBS.c.id
    return select(_HOLDS.c.digest, _HOLDS.c.size_bytes, _for_job(1)).where(*_unfinished(tenant), of_job)


def _checkpoints(tenant: str) -> Select[str, int, int]:
    """Select the states that unfinished jobs go on from, which are a batch's answered lines."""
    of_job, has_bytes = _CHECKPOINTS.c.job_id == _JOBS.c.id, _CHECKPOINTS.c.digest.is_not(None)
    return select(_CHECKPOINTS.c.digest, _CHECKPOINTS.c.size_bytes, _for_job(1)).where(
        *_unfinished(tenant), of_job, has_bytes
    )


def _unfinished(tenant: str) -> tuple[ColumnElement[bool], ...]:
    return _JOBS.c.tenant == tenant, _JOBS.c.state.in_(UNFINISHED)


def _for_job(value: int) -> ColumnElement[int]:
    return cast(literal(value), Integer).label("for_job")


def _has(session: Session, tenant: str, digest: str) -> bool:
    own = _own(tenant)
    return session.execute(select(own.c.digest).where(own.c.digest == digest).limit(1)).first() is not None
