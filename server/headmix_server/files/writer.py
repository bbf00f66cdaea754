"""Stores bytes so that a crash at any line loses none that are referred to and leaves none behind for good.

First a hold, then the bytes, then in one transaction the reference and the end of the hold. A hold ends by itself after
a day, should its process die; bytes that nothing refers to then get a tombstone.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from sqlalchemy import Engine, delete, update
from sqlalchemy.orm import Session

from headmix_server.catalog.bytes.upload import Upload
from headmix_server.core.errors import HeadmixServerError, StorageUnavailable
from headmix_server.core.turns import SERVER
from headmix_server.database import writing
from headmix_server.files.bytes import FileBytes
from headmix_server.files.references import add_hold, bury
from headmix_server.files.tables import FileHoldRow, FileTombstoneRow

T = TypeVar("T")

HOLD_SECONDS = 24 * 3600
"""How long a process may take to write bytes and to refer to them."""
WRITER = "writer"
_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = 10.0


class BytesWriter:
    """Stores bytes of one database's files. Safe to use from many threads and processes."""

    def __init__(self, engine: Engine, stored: FileBytes) -> None:
        self._engine = engine
        self._stored = stored

    def write(self, tenant: str, upload: Upload, refer: Callable[[Session], T]) -> T:
        """Store an upload's bytes and make the reference to them, and return what `refer` does.

        Raises:
            HeadmixServerError: what `refer` or the store raises; nothing has changed.
            StorageUnavailable: the same bytes are being removed.
        """
        upload.finish()
        hold = self._hold(tenant, upload.digest)
        try:
            self._stored.commit(upload)
            with writing(self._engine, tenant) as session:
                made = refer(session)
                _release(session, {hold: upload.digest})
                return made
        except Exception:
            self.release({hold: upload.digest}, tenant)
            raise

    def stage(self, upload: Upload) -> str:
        """Store an upload's bytes without a reference, and return the hold that keeps them until `release`."""
        upload.finish()
        hold = self._hold(SERVER, upload.digest)
        try:
            self._stored.commit(upload)
        except Exception:
            self.release({hold: upload.digest})
            raise
        return hold

    def renew(self, hold: str) -> bool:
        """Let a hold last a day from now; return false if it has ended."""
        own = update(FileHoldRow).where(FileHoldRow.id == hold)
        with writing(self._engine) as session:
            renewed = session.execute(own.values(expires=_in_a_day()).returning(FileHoldRow.id))
            return renewed.first() is not None

    def release(self, holds: Mapping[str, str], tenant: str = SERVER) -> None:
        """End holds, given with their digests. If the database is unavailable, they end by themselves."""
        with suppress(HeadmixServerError), writing(self._engine, tenant) as session:
            _release(session, holds)

    def _hold(self, tenant: str, digest: str) -> str:
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            with writing(self._engine, tenant) as session:
                if session.get(FileTombstoneRow, digest) is None:
                    return add_hold(session, digest, holder=WRITER, expires=_in_a_day())
            if time.monotonic() > end:
                raise StorageUnavailable("The same bytes are being removed from the store; try again.")
            time.sleep(_LOOK_SECONDS)


def _in_a_day() -> int:
    return int(time.time()) + HOLD_SECONDS


def _release(session: Session, holds: Mapping[str, str]) -> None:
    session.flush()
    session.execute(delete(FileHoldRow).where(FileHoldRow.id.in_(holds)))
    bury(session, *holds.values())
