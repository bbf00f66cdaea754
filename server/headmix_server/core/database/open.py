"""Opening a database: which kind it is, that it is ours, and that its schema is this program's."""

from collections.abc import Callable
from pathlib import Path

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import has_compiled_ext

from headmix_server.core.circuit_breaker import CircuitBreaker
from headmix_server.core.database.faults import DatabaseUnreachable, DatabaseUnusable, plain_fault
from headmix_server.core.database.migrate import migrate
from headmix_server.core.database.patience import UNBOUNDED, with_patience
from headmix_server.core.database.postgres import postgres_engine
from headmix_server.core.database.sqlite import sqlite_engine
from headmix_server.core.database.url import is_postgres, read_url, shown
from headmix_server.core.logging import get_logger

INVALID = "connection is bad: invalid"
"""How psycopg tells of an option's value that libpq refused before it connected."""

AWAY_SECONDS = 1.0
"""How long a database that could not be reached is left alone."""


def open_database(
    location: str | Path, *, busy_seconds: float = 10.0, on_failure: Callable[[], None] = lambda: None
) -> Engine:
    """Open (or create) the database at a path, a `sqlite:///` or a `postgresql://` URL; bring its schema up to date.

    Safe to use from many threads. A transaction waits at most `busy_seconds` for the locks of others. `on_failure` is
    called, in any thread, whenever the server cannot be reached.

    Raises:
        DatabaseUnreachable: its server does not answer at the moment, or its disk fails.
        DatabaseUnusable: of another kind, not ours, or of a schema this program does not know.
    """
    url = read_url(location)
    if is_postgres(url):
        engine = postgres_engine(url, busy_seconds, CircuitBreaker(AWAY_SECONDS, on_failure=on_failure))
    else:
        engine = sqlite_engine(url, busy_seconds)
    try:
        with engine.execution_options(immediate=True, **with_patience(UNBOUNDED)).begin() as connection:
            migrate(connection)
        with engine.connect() as connection:
            _log_how(connection)
    except DBAPIError as error:
        engine.dispose()
        reason = " ".join(str(error.orig).split())
        away = plain_fault(error) is not None and INVALID not in reason
        kind = DatabaseUnreachable if away else DatabaseUnusable
        raise kind(f"{shown(url)} cannot be opened as a database: {reason}") from error
    except DatabaseUnusable as error:
        engine.dispose()
        raise DatabaseUnusable(f"{shown(url)} {error}") from error
    return engine


def _log_how(connection: Connection) -> None:
    """Log which of its ways the database is used in: a slower one must not be taken in silence."""
    log = get_logger("database").bind(compiled=has_compiled_ext())  # type: ignore[no-untyped-call]
    if connection.dialect.name == "postgresql":
        log.info("database", kind="postgresql", driver=f"psycopg {psycopg.pq.__impl__}")
        return
    journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    log.info("database", kind="sqlite", journal=journal)
    if journal != "wal":
        log.warning("no write-ahead log on this file system: readers and writers wait for each other", journal=journal)
