"""Decides whose transaction writes next: one at a time, tenants in turn, the server's own before theirs.

Both databases have one write lock, and neither grants it in the order of arrival: SQLite's waiters sleep and retry, so
that some fail when their time is over. Here they queue in this process, before they take a connection; the database's
lock remains for other processes.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from headmix_server.core.turns import SERVER, TurnOrder
from headmix_server.database.connection.faults import busy

MOST_WAITING = 16
"""The most waiting writes of one tenant: each one blocks a thread."""


class WriteTurns:
    """Safe to use from many threads. No caller waits longer than `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._order: TurnOrder[threading.Event] = TurnOrder()

    @property
    def waiting(self) -> int:
        """How many callers wait."""
        with self._lock:
            return len(self._order)

    @contextmanager
    def turn(self, tenant: str) -> Iterator[None]:
        """Wait for a turn and keep it for the block.

        Raises:
            ServerOverloaded: others took too long, or too many of the tenant's writes are waiting.
        """
        self._wait(tenant)
        try:
            yield
        finally:
            with self._lock:
                self._end(tenant)

    def _wait(self, tenant: str) -> None:
        mine = threading.Event()
        with self._lock:
            if tenant != SERVER and self._order.waiting(tenant) >= MOST_WAITING:
                raise busy()
            self._order.join(tenant, mine)
            self._let_in()
        try:
            mine.wait(self._seconds)
        except BaseException:
            with self._lock:
                self._give_up(tenant, mine)
            raise
        with self._lock:
            if not mine.is_set():
                self._give_up(tenant, mine)
                raise busy()

    def _give_up(self, tenant: str, mine: threading.Event) -> None:
        if mine.is_set():
            self._end(tenant)
        else:
            self._order.leave(tenant, mine)

    def _end(self, tenant: str) -> None:
        self._order.end(tenant)
        self._let_in()

    def _let_in(self) -> None:
        if (following := self._order.take()) is not None:
            following.set()
