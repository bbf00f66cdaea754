"""When each key was last used: noted in memory by every request, written to the database now and then.

A request must not wait for a write, so after a crash up to the time between two writes is forgotten.
"""

import threading

from sqlalchemy import Engine, bindparam, update

from headmix_server.database import writing
from headmix_server.tenancy.tables import KeyRow

_NOTE = update(KeyRow).where(KeyRow.id == bindparam("key")).values(last_used=bindparam("moment"))


class LastUsed:
    """Safe to use from many threads. Times are Unix seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moments: dict[str, int] = {}

    def mark_used(self, key_id: str, moment: int) -> None:
        """Note a use."""
        with self._lock:
            self._moments[key_id] = moment

    def of(self, key_id: str) -> int | None:
        """Return a use that is not written yet, or None."""
        return self._moments.get(key_id)

    def flush(self, engine: Engine) -> None:
        """Write what is new; if that fails it is kept for the next time.

        Raises:
            StorageUnavailable, ServerOverloaded, InsufficientStorage: see `database.writing`.
        """
        with self._lock:
            moments, self._moments = self._moments, {}
        if not moments:
            return
        try:
            with writing(engine) as session:
                session.connection().execute(_NOTE, [{"key": key, "moment": at} for key, at in moments.items()])
        except BaseException:
            with self._lock:
                self._moments = moments | self._moments
            raise
