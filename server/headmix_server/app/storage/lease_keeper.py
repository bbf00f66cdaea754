"""Keeps the lease on the database while the server runs, and says whether requests may be served.

A server may serve new requests while its last renewal is younger than the lease. If the database is unavailable for
longer, requests that run go on and new ones are refused until the lease is confirmed again. Once another server has
taken it, this one must end: `on_lost` is told, and nothing is written any more.
"""

import threading
import time
from collections.abc import Callable

from sqlalchemy.orm import Session

from headmix_server.core.errors import InsufficientStorage, StorageUnavailable
from headmix_server.core.observability.logging import get_logger
from headmix_server.database import Lease

SAFE_PART = 0.9
"""Of the lease, the part in which new requests are served: clocks need not run at exactly the same speed."""
BEATS = 5
"""Renewals within one lease."""
RETRIES = 10
"""Tries within one lease while the database cannot be used."""
UNCONFIRMED = "the database cannot be reached"


def steady_clock() -> float:
    """Return seconds that go on while the machine sleeps, where the system tells them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class LeaseKeeper:
    """Renews a lease that was taken at `taken_at` from its own thread, between `start` and `close`.

    `on_lost` is called once, from any thread, with the reason. `clock` is the one `taken_at` was read from. `locked`
    says that nobody else can open the database at all: then a full disk, which no beat can be written to, is no reason
    to refuse requests.
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
        """Return why a new request must not be served now, or None; asks nothing but the clock."""
        if self._lost is not None:
            return self._lost
        safe_until = self._confirmed_at + SAFE_PART * self._lease.holder.seconds
        return None if self._clock() < safe_until else UNCONFIRMED

    def fence(self, session: Session) -> None:
        """Check the lease within a transaction that writes.

        Raises:
            StorageUnavailable: it is lost.
        """
        if not self._lease.is_held_in(session):
            self._lose("another server has taken over the database")
            raise StorageUnavailable("Another server has taken over the database; nothing was changed.")

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def close(self) -> None:
        """Stop renewing and give the lease back, so that the next server need not wait."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._lost is None:
            try:
                self._lease.release()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next server waits until the lease has ended
                self._log.warning("the lease could not be given back", reason=str(error))

    def _run(self) -> None:
        seconds = self._lease.holder.seconds
        while not self._closing.wait(seconds / (RETRIES if self._failing else BEATS)):
            self.beat()
            if self._lost is not None:
                return

    def beat(self) -> None:
        """Renew the lease once; a database that fails is logged and asked again."""
        began = self._clock()
        try:
            held = self._renew()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody else can have taken the lease with it
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
        """Take in what a renewal that began at this time has found."""
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
        except Exception:  # noqa: BLE001 - the lease is lost all the same
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
