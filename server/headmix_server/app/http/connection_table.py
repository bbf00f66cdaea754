"""How many connections may be open, and which one makes room for a new one when they are too many.

Knows no HTTP. A connection that is serving a request stays; one that waits for its next request, or has not finished
sending one, may be closed. The one that has waited longest goes first, so that a client
that opens thousands and sends nothing keeps nobody else out.
"""

import time
from collections.abc import Callable
from typing import Protocol

from headmix_server.core.observability.logging import get_logger

_QUIET_SECONDS = 60.0
"""How often the log says that the table is full."""


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
        """How many wait for a request, or for its end."""
        return len(self._waiting)

    def watch_full(self, on_full: Callable[[], None]) -> None:
        """Have it told from now on whenever a connection was closed for another, or not let in."""
        self._on_full = on_full

    def add(self, connection: Waiting) -> bool:
        """Take in a connection, which waits at first; return whether there is room for it."""
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
        """Forget a connection; one that is not there is no error."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    def serves(self, connection: Waiting) -> None:
        """Note that a request of the connection is being served."""
        self._waiting.pop(connection, None)

    def waits(self, connection: Waiting) -> None:
        """Note that it waits again, from now on."""
        if connection in self._open:
            self._waiting.pop(connection, None)
            self._waiting[connection] = None

    def _say_so(self) -> None:
        now = time.monotonic()
        if now - self._said_at >= _QUIET_SECONDS:
            self._said_at = now
            self._log.warning("connections full", most=self._most, waiting=len(self._waiting))
