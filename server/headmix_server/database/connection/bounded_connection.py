"""A psycopg connection that gives up on a server that has been silent for too long.

A server whose machine hangs, or that the network no longer reaches, refuses nothing: without this, callers would wait
until it comes back.
"""

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait

PING_SECONDS = 2.0

T = TypeVar("T")


class BoundedConnection(psycopg.Connection[tuple[Any, ...]]):
    """Closes itself once an operation has waited for `patience` seconds without a byte from the server."""

    patience: float = PING_SECONDS

    def wait(self, gen: PQGen[T], *arguments: Any, **options: Any) -> T:  # noqa: ANN401 - psycopg's own, as they come
        """Wait for an operation as psycopg does.

        Raises:
            psycopg.OperationalError: the server was silent for too long.
        """
        return super().wait(self._within_patience(gen), *arguments, **options)

    def _within_patience(self, operation: PQGen[T]) -> Generator[Wait, Ready | int, T]:
        """Pass on what psycopg says of the socket, which is ten times a second that nothing came."""
        heard = time.monotonic()
        try:
            needed = next(operation)
            while True:
                ready = yield needed
                if ready:
                    heard = time.monotonic()
                elif time.monotonic() - heard > self.patience:
                    operation.close()
                    self.close()
                    raise psycopg.OperationalError(f"the server has been silent for {self.patience:g} s")
                needed = operation.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result
