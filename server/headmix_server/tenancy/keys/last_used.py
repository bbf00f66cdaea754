"""When each key was last used: recorded in memory by every request, written to the database periodically.

Requests must not wait for a write, so a crash loses the uses since the last one.
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
        """Record a use."""
        with self._lock:
            self._moments[key_id] = moment

    def of(self, key_id: str) -> int | None:
        """Return the last use that is not written yet, or None."""
        return self._moments.get(key_id)

    def flush(self, engine: Engine) -> None:
        """Write new uses to the database; if that fails they are kept for the next time.

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
