"""Opens a database: finds its kind, checks that it is headmix's, and brings its schema up to date."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import Connection, Engine, event, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import has_compiled_ext

from headmix_server.core.circuit_breaker import CircuitBreaker
from headmix_server.core.observability.logging import get_logger
from headmix_server.database.connection.faults import DatabaseUnreachable, DatabaseUnusable, plain_fault
from headmix_server.database.connection.patience import UNBOUNDED, with_patience
from headmix_server.database.connection.postgres import postgres_engine
from headmix_server.database.connection.sqlite import sqlite_engine
from headmix_server.database.connection.url import is_postgres, read_url, shown
from headmix_server.database.lease.lease import LeaseRow
from headmix_server.database.migrate import migrate, require_current

INVALID = "connection is bad: invalid"
"""psycopg's message if libpq refused an option's value before connecting."""

AWAY_SECONDS = 1.0
"""How long an unreachable database is not tried again."""


def open_database(
    location: str | Path, *, busy_seconds: float = 10.0, on_failure: Callable[[], None] = lambda: None
) -> Engine:
    """Open (or create) the database at a path, a `sqlite:///` or a `postgresql://` URL; bring its schema up to date.

    Safe to use from many threads. A transaction waits at most `busy_seconds` for the locks of others. `on_failure` is
    called, in any thread, whenever the server cannot be reached.

    Raises:
        DatabaseUnreachable: its server does not respond at the moment, or its disk fails.
        DatabaseUnusable: it is of another kind, not headmix's, or has a schema this program does not know.
    """
    engine = connect_database(location, busy_seconds=busy_seconds, on_failure=on_failure)
    try:
        upgrade_database(engine)
    except DatabaseUnusable:
        engine.dispose()
        raise
    return engine


def connect_database(
    location: str | Path, *, busy_seconds: float = 10.0, on_failure: Callable[[], None] = lambda: None
) -> Engine:
    """As `open_database`, but without contacting the database: the first use shows whether it is reachable.

    Raises:
        DatabaseUnusable: it is of another kind.
    """
    url = read_url(location)
    if is_postgres(url):
        engine = postgres_engine(url, busy_seconds, CircuitBreaker(AWAY_SECONDS, on_failure=on_failure))
    else:
        engine = sqlite_engine(url, busy_seconds)
    disposal = _Disposal()
    event.listen(engine, "engine_disposed", disposal.on_disposed)
    event.listen(engine, "connect", disposal.on_connect)
    event.listen(engine, "checkin", disposal.on_checkin)
    return engine


class _Disposal:
    """Closes the connections that threads return after the engine was disposed of: they would go to a pool that is
    no one's, and stay open until it is collected.
    """

    def __init__(self) -> None:
        self._times = 0

    def on_disposed(self, _: Engine) -> None:
        self._times += 1

    def on_connect(self, _: object, entry: ConnectionPoolEntry) -> None:
        entry.info[_Disposal] = self._times

    def on_checkin(self, _: object, entry: ConnectionPoolEntry) -> None:
        if entry.info.get(_Disposal) != self._times:
            entry.close()


def ensure_lease(engine: Engine) -> None:
    """Bring a schema up to date if it is new or has no lease yet, so that nobody can hold it; leave others unchanged.

    Raises:
        DatabaseUnreachable, DatabaseUnusable: as `upgrade_database`.
    """
    with _told_plainly(engine), _changing_schema(engine) as connection:
        if not {"alembic_version", LeaseRow.__tablename__} <= set(inspect(connection).get_table_names()):
            migrate(connection)


def require_schema(engine: Engine) -> None:
    """Check that the schema is up to date, without changing it.

    Raises:
        DatabaseUnreachable: its server does not respond at the moment, or its disk fails.
        DatabaseUnusable: it is not headmix's, or has another schema than this program's.
    """
    with _told_plainly(engine), engine.connect() as connection:
        require_current(connection)
        _log_how(connection)


def upgrade_database(engine: Engine) -> None:
    """Bring the schema up to date, or create it, within one transaction.

    Raises:
        DatabaseUnreachable: its server does not respond at the moment, or its disk fails.
        DatabaseUnusable: it is not headmix's, or has a schema this program does not know.
    """
    with _told_plainly(engine):
        with _changing_schema(engine) as connection:
            migrate(connection)
        with engine.connect() as connection:
            _log_how(connection)


def _changing_schema(engine: Engine) -> AbstractContextManager[Connection]:
    return engine.execution_options(immediate=True, **with_patience(UNBOUNDED)).begin()


@contextmanager
def _told_plainly(engine: Engine) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        reason = " ".join(str(error.orig).split())
        away = plain_fault(error) is not None and INVALID not in reason
        kind = DatabaseUnreachable if away else DatabaseUnusable
        raise kind(f"{shown(engine.url)} cannot be opened as a database: {reason}") from error
    except DatabaseUnusable as error:
        raise DatabaseUnusable(f"{shown(engine.url)} {error}") from error


def _log_how(connection: Connection) -> None:
    """Log the modes in which the database is used: a slow one must not go unnoticed."""
    log = get_logger("database").bind(compiled=has_compiled_ext())  # type: ignore[no-untyped-call]
    if connection.dialect.name == "postgresql":
        log.info("database", kind="postgresql", driver=f"psycopg {psycopg.pq.__impl__}")
        return
    journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    log.info("database", kind="sqlite", journal=journal)
    if journal != "wal":
        log.warning("no write-ahead log on this file system: readers and writers wait for each other", journal=journal)
