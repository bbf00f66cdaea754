"""How many connections may be open, and which one is closed to make room for a new one.

Knows no HTTP. A connection that is serving a request is kept; one that waits for its next request, or has not finished
sending one, may be closed. The one that has waited longest goes first, so that a client that opens thousands and sends
nothing keeps no one else out.
"""

import time
from collections.abc import Callable
from typing import Protocol

from headmix_server.core.observability.logging import get_logger

_QUIET_SECONDS = 60.0
"""The minimum interval between log lines that say that the table is full."""


class Waiting(Protocol):
    """A connection that can be closed while it waits."""

    def give_way(self) -> None:
        """Close."""


class ConnectionTable:
    """The open connections of a server, at most `most`; used on one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[Waiting] = set()
        self._waiting: dict[Waiting, None] = {}
        self._said_at = -_QUIET_SECONDS
        self._on_full: Callable[[], None] = lambda: None
        self._log = get_logger("http")

    def __len__(self) -> int:
        return len(self._open)

    @property
    def num_waiting(self) -> int:
        """How many connections wait for a request, or for the rest of one."""
        return len(self._waiting)

    def watch_full(self, on_full: Callable[[], None]) -> None:
        """Call `on_full` from now on whenever a connection is closed to make room, or not admitted."""
        self._on_full = on_full

    def add(self, connection: Waiting) -> bool:
        """Add a connection, which waits at first; return whether there is room for it."""
        if len(self._open) >= self._most:
            self._on_full()
            self._say_so()
            oldest = next(iter(self._waiting), None)
            if oldest is None:
                return False
            self.remove(oldest)
            oldest.give_way()
        self._open.add(connection)
        self._waiting[connection] = None
        return True

    def remove(self, connection: Waiting) -> None:
        """Remove a connection; it is no error if it is not in the table."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    def serves(self, connection: Waiting) -> None:
        """Mark the connection as serving a request."""
        self._waiting.pop(connection, None)

    def waits(self, connection: Waiting) -> None:
        """Mark the connection as waiting again, from now on."""
        if connection in self._open:
            self._waiting.pop(connection, None)
            self._waiting[connection] = None

    def _say_so(self) -> None:
        now = time.monotonic()
        if now - self._said_at >= _QUIET_SECONDS:
            self._said_at = now
            self._log.warning("connections full", most=self._most, waiting=len(self._waiting))
