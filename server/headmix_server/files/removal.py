"""Removes the bytes that tombstones name. Only the server does this: it holds the database's lease."""

import threading

from sqlalchemy import Engine, delete, select

from headmix_server.core.observability.logging import get_logger
from headmix_server.database import reading, writing
from headmix_server.files.bytes import FileBytes
from headmix_server.files.tables import FileTombstoneRow


class Removal:
    """Safe to use from many threads. Unless `is_allowed`, tombstones are left to the process that may."""

    def __init__(self, engine: Engine, stored: FileBytes, *, is_allowed: bool) -> None:
        self._engine = engine
        self._stored = stored
        self._is_allowed = is_allowed
        self._lock = threading.Lock()
        self._log = get_logger("files")

    def run(self) -> None:
        """Remove what can be removed now; failures are logged, and what is left is removed by the next call."""
        if not self._is_allowed:
            return
        # One at a time: a thread must not still remove bytes whose tombstone another has taken away already.
        with self._lock:
            try:
                for digest in self._buried():
                    self._remove(digest)
            except Exception as error:  # noqa: BLE001 - whatever failed is tried again, and must not fail its caller
                self._log.error("a deleted file's bytes could not be removed", reason=str(error))

    def _remove(self, digest: str) -> None:
        # Asked again as a writer, which a server that has lost its lease in the meantime is not.
        with writing(self._engine) as session:
            if session.get(FileTombstoneRow, digest) is None:
                return
        self._stored.delete(digest)
        with writing(self._engine) as session:
            session.execute(delete(FileTombstoneRow).where(FileTombstoneRow.digest == digest))

    def _buried(self) -> tuple[str, ...]:
        with reading(self._engine) as session:
            return tuple(session.scalars(select(FileTombstoneRow.digest).order_by(FileTombstoneRow.digest)))
