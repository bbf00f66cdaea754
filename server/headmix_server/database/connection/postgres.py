"""PostgreSQL: readers see one snapshot, writers take turns on one advisory lock, and a silent server is not waited for.

The lock gives writers what SQLite's `BEGIN IMMEDIATE` gives them, so the code above only needs to know one kind of
database. While the server is unavailable, a transaction fails within seconds: immediately if the connection is refused
or another one has just failed, and otherwise after the server has been silent for the transaction's patience.
"""

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.pool import ConnectionPoolEntry

from headmix_server.core.circuit_breaker import CircuitBreaker
from headmix_server.core.observability.logging import get_logger
from headmix_server.database.connection.faults import unreachable
from headmix_server.database.connection.patience import patience_of
from headmix_server.database.write_turns import WriteTurns

WRITE_LOCK = 0x6865_6164_6D69_78  # "headmix"
CONNECT_SECONDS = 5
PING_SECONDS = 2.0
IDLE_SECONDS = 10
"""How long a process that hangs or has lost its network can keep the write lock from its successor."""


T = TypeVar("T")


def postgres_engine(url: URL, busy_seconds: float, breaker: CircuitBreaker) -> Engine:
    """Return an engine that connects to the URL's server through psycopg; connections are tested before use."""
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=8,
        max_overflow=56,
        pool_timeout=busy_seconds,
        pool_pre_ping=True,
        isolation_level="REPEATABLE READ",
        execution_options={"write_turns": WriteTurns(busy_seconds)},
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "headmix",
            "options": f"-c lock_timeout={int(busy_seconds * 1000)} "
            f"-c idle_in_transaction_session_timeout={int(max(busy_seconds, IDLE_SECONDS) * 1000)}",
        },
    )
    connecting = _Connecting(breaker)
    event.listen(engine, "do_connect", connecting)
    event.listen(engine, "checkin", _await_a_ping)
    event.listen(engine, "begin", _Begin(busy_seconds))
    return engine


class BoundedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that closes itself if an operation waits for `patience` seconds without a byte from the server.

    A hung machine, or one that the network no longer reaches, refuses nothing: without this, callers would wait until
    it comes back.
    """

    patience: float = PING_SECONDS

    def wait(self, gen: PQGen[T], *arguments: Any, **options: Any) -> T:  # noqa: ANN401 - psycopg's own arguments
        """Wait for an operation as psycopg does.

        Raises:
            psycopg.OperationalError: the server was silent for too long.
        """
        return super().wait(self._within_patience(gen), *arguments, **options)

    def _within_patience(self, operation: PQGen[T]) -> Generator[Wait, Ready | int, T]:
        """Forward psycopg's states of the socket; ten times a second it reports that nothing has arrived."""
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


class _Connecting:
    """Opens connections, unless another attempt has just found the server unavailable."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._log = get_logger("database")

    def __call__(
        self, _: Dialect, __: ConnectionPoolEntry, arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> BoundedConnection:
        if not self._breaker.allows():
            raise unreachable()
        try:
            connection = BoundedConnection.connect(*arguments, **options)
        except psycopg.OperationalError as error:
            self._breaker.failed()
            self._log.error("the database cannot be reached", reason=str(error).strip())
            raise
        if self._breaker.succeeded():
            self._log.info("the database is reachable again")
        return connection


def _await_a_ping(connection: object, _: ConnectionPoolEntry) -> None:
    """Set the patience for the next user's test of the connection, which is answered soon or never."""
    _set_patience(connection, PING_SECONDS)


class _Begin:
    def __init__(self, busy_seconds: float) -> None:
        self._busy_seconds = busy_seconds

    def __call__(self, connection: Connection) -> None:
        options = connection.get_execution_options()
        immediate = options.get("immediate", False)
        patience = patience_of(options) + (self._busy_seconds if immediate else 0.0)
        _set_patience(connection.connection.driver_connection, patience)
        if immediate:
            # Under REPEATABLE READ, the statement that waits for the lock would fix the snapshot before it gets it.
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")


def _set_patience(connection: object, seconds: float) -> None:
    if isinstance(connection, BoundedConnection):
        connection.patience = seconds
