"""SQLite: one file, a write-ahead log, and transactions that lock when they are told to."""

import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import ConnectionPoolEntry

from headmix_server.database.connection.faults import DatabaseUnusable
from headmix_server.database.write_turns import WriteTurns

_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a confirmed commit survives a power failure
    "PRAGMA foreign_keys = ON",
)


def sqlite_engine(url: URL, busy_seconds: float) -> Engine:
    """Return an engine for the URL's file; its folder is created if necessary.

    Raises:
        DatabaseUnusable: the URL names no file.
    """
    if not url.database or url.database == ":memory:":
        raise DatabaseUnusable(f"{url.render_as_string(hide_password=True)} names no file for the SQLite database.")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    # As many connections as the API has threads: none waits for one while another only reads, and a burst of requests
    # finds them open; connections beyond `pool_size` would be closed after each use.
    engine = create_engine(
        url,
        pool_size=112,
        max_overflow=0,
        connect_args={"timeout": busy_seconds, "isolation_level": None},
        execution_options={"write_turns": WriteTurns(busy_seconds)},
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    for pragma in _PRAGMAS:
        connection.execute(pragma).close()


def _begin(connection: Connection) -> None:
    # The driver's own transaction control, which `isolation_level` turns off, begins late and never IMMEDIATE.
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
