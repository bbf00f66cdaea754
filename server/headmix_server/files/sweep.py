"""Removes what has expired or was left behind: files, uploads, holds of processes that died, and bytes without a row.

Only the server sweeps.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from headmix_server.catalog.quota import PENDING
from headmix_server.catalog.tables import FileRow, UploadRow
from headmix_server.core.observability.logging import get_logger
from headmix_server.database import SERVER, audit, reading, writing
from headmix_server.files.files import Files
from headmix_server.files.references import bury, referenced, with_tombstones
from headmix_server.files.stored_file import exists_now
from headmix_server.files.tables import FileHoldRow
from headmix_server.files.uploads import UploadState, remove_parts

YOUNG = timedelta(days=1)
"""How long bytes stay that nothing refers to, and unfinished ones: another process may be about to use them."""
_AT_ONCE = 100


class Sweep:
    """Sweeps one database's files and their store."""

    def __init__(self, engine: Engine, files: Files, *, young: timedelta = YOUNG) -> None:
        self._engine = engine
        self._files = files
        self._young = young
        self._log = get_logger("files")

    def expire(self) -> None:
        """Remove what has expired, a little in each transaction, and then the bytes that nothing refers to."""
        for work in (_expire_files, _expire_uploads, _forget_uploads, _expire_holds):
            while True:
                with writing(self._engine) as session:
                    if work(session) < _AT_ONCE:
                        break
        self._files.removal.run()

    def collect(self) -> None:
        """Remove bytes that no row knows, as after a restored backup, and what unfinished writes left."""
        oldest = datetime.now(UTC) - self._young
        left = self._files.bytes.remove_abandoned(before=oldest)
        old = [digest for digest, written in self._files.bytes.digests() if written <= oldest]
        unknown = 0
        for start in range(0, len(old), _AT_ONCE):
            some = self._unknown(old[start : start + _AT_ONCE])
            if some:
                with writing(self._engine) as session:
                    bury(session, *some)
                unknown += len(some)
        if left or unknown:
            self._log.info("removed leftovers of files", unfinished=left, unknown=unknown)
        self._files.removal.run()

    def totals(self) -> tuple[int, int]:
        """Return how many files there are, and how many bytes, those that several files have counted once."""
        live = select(FileRow).where(exists_now()).subquery()
        each = select(live.c.digest, live.c.size_bytes).distinct().subquery()
        with reading(self._engine) as session:
            count = session.scalars(select(func.count()).select_from(live)).one()
            size = session.scalars(select(func.coalesce(func.sum(each.c.size_bytes), 0))).one()
        return count, int(size)

    def _unknown(self, digests: Sequence[str]) -> frozenset[str]:
        with reading(self._engine) as session:
            return frozenset(digests) - referenced(session, digests) - with_tombstones(session, digests)


def _expire_files(session: Session) -> int:
    due = FileRow.expires <= int(time.time())
    rows = session.scalars(select(FileRow).where(due).order_by(FileRow.expires).limit(_AT_ONCE)).all()
    for row in rows:
        audit(session, SERVER, row.tenant, "file.expire", row.id, digest=row.digest)
        session.delete(row)
    bury(session, *(row.digest for row in rows))
    return len(rows)


def _expire_uploads(session: Session) -> int:
    due = (UploadRow.state == PENDING, UploadRow.expires <= int(time.time()))
    rows = session.scalars(select(UploadRow).where(*due).limit(_AT_ONCE)).all()
    for row in rows:
        row.state = UploadState.EXPIRED.value
        remove_parts(session, row.id)
    return len(rows)


def _forget_uploads(session: Session) -> int:
    """Remove uploads that ended long ago: until then, a client that repeats its last request gets the same answer."""
    due = (UploadRow.state != PENDING, UploadRow.expires <= int(time.time()) - int(YOUNG.total_seconds()))
    ended = session.scalars(select(UploadRow.id).where(*due).limit(_AT_ONCE)).all()
    session.execute(delete(UploadRow).where(UploadRow.id.in_(ended)))
    return len(ended)


def _expire_holds(session: Session) -> int:
    due = FileHoldRow.expires <= int(time.time())
    rows = session.scalars(select(FileHoldRow).where(due).limit(_AT_ONCE)).all()
    for row in rows:
        session.delete(row)
    bury(session, *(row.digest for row in rows))
    return len(rows)
