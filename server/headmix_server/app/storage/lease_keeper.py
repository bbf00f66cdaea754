"""Keeps the lease on the database while the server runs, and decides whether requests may be served.

A server may serve new requests as long as its last renewal is younger than the lease. If the database is unavailable
for longer, running requests continue and new ones are refused until the lease is confirmed again. Once another server
has taken the lease, this one must end: `on_lost` is called, and nothing more is written.
"""

import threading
import time
from collections.abc import Callable

from sqlalchemy.orm import Session

from headmix_server.core.errors import InsufficientStorage, StorageUnavailable
from headmix_server.core.observability.logging import get_logger
from headmix_server.database import Lease

SAFE_PART = 0.9
"""The fraction of a lease in which new requests are served: clocks may not run at exactly the same speed."""
BEATS = 5
"""Renewals per lease."""
RETRIES = 10
"""Attempts per lease while the database is unavailable."""
UNCONFIRMED = "the database cannot be reached"


def steady_clock() -> float:
    """Return the seconds of a clock that keeps running while the machine sleeps, if the system has one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class LeaseKeeper:
    """Renews a lease taken at `taken_at` from its own thread, between `start` and `close`.

    `on_lost` is called once, from any thread, with the reason. `clock` is the one that `taken_at` was read from.
    `locked` means that no other process can open the database at all: then a full disk, which prevents renewals, is no
    reason to refuse requests.
    """

    def __init__(
        self,
        lease: Lease,
        taken_at: float,
        *,
        on_lost: Callable[[str], None],
        locked: bool = False,
        clock: Callable[[], float] = steady_clock,
    ) -> None:
        self._lease = lease
        self._locked = locked
        self._confirmed_at = taken_at
        self._on_lost = on_lost
        self._clock = clock
        self._lost: str | None = None
        self._failing = False
        self._losing = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._log = get_logger("lease")

    @property
    def lost(self) -> str | None:
        """Why the lease is lost, or None."""
        return self._lost

    def refusal(self) -> str | None:
        """Return why a new request must not be served now, or None; reads nothing but the clock."""
        if self._lost is not None:
            return self._lost
        safe_until = self._confirmed_at + SAFE_PART * self._lease.holder.seconds
        return None if self._clock() < safe_until else UNCONFIRMED

    def fence(self, session: Session) -> None:
        """Check the lease within a writing transaction.

        Raises:
            StorageUnavailable: the lease is lost.
        """
        if not self._lease.is_held_in(session):
            self._lose("another server has taken over the database")
            raise StorageUnavailable("Another server has taken over the database; nothing was changed.")

    def start(self) -> None:
        """Start renewing."""
        self._thread.start()

    def close(self) -> None:
        """Stop renewing and release the lease, so that the next server need not wait."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._lost is None:
            try:
                self._lease.release()
            except Exception as error:  # noqa: BLE001 - on any error, the next server waits until the lease expires
                self._log.warning("the lease could not be released", reason=str(error))

    def _run(self) -> None:
        seconds = self._lease.holder.seconds
        while not self._closing.wait(seconds / (RETRIES if self._failing else BEATS)):
            self.beat()
            if self._lost is not None:
                return

    def beat(self) -> None:
        """Renew the lease once; a database error is logged and the renewal retried."""
        began = self._clock()
        try:
            held = self._renew()
        except Exception as error:  # noqa: BLE001 - while the database fails, no other server can take the lease
            if not self._failing:
                self._log.warning("the lease is not confirmed", reason=str(error))
            self._failing = True
            return
        self.confirm(began, held=held)

    def _renew(self) -> bool:
        try:
            return self._lease.renew()
        except InsufficientStorage:
            if not self._locked:
                raise
            return self._lease.is_held()

    def confirm(self, began: float, *, held: bool) -> None:
        """Handle the result of a renewal that started at `began`."""
        if not held:
            self._lose(self._successor())
            return
        if self._failing:
            self._log.info("the lease is confirmed again", after_seconds=round(began - self._confirmed_at, 1))
        self._failing = False
        self._confirmed_at = began

    def _successor(self) -> str:
        try:
            seen = self._lease.look()
        except Exception:  # noqa: BLE001 - the lease is lost anyway
            return "another server has taken over the database"
        if seen.token is None:
            return "this server's lease on the database is gone"
        return f"another headmix server ({seen.holder}) has taken over the database"

    def _lose(self, reason: str) -> None:
        with self._losing:
            if self._lost is not None:
                return
            self._lost = reason
        self._log.critical("the lease is lost", reason=reason)
        self._on_lost(reason)
