"""The database: one SQLite file, how it is opened, and how a transaction reads or writes.

Owns the declarative base, the `tenants` table that catalog and tenancy both hang on, and the schema's version. Knows
nothing of the other tables: whoever opens the database has imported the modules that declare them.
"""

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import ConnectionPoolEntry

from headmix_server.core.errors import HeadmixServerError, InsufficientStorage, InvalidRequest, ServerOverloaded

SCHEMA_VERSION = 1
_TENANT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a commit that was answered survives a power cut
    "PRAGMA foreign_keys = ON",
)


class DatabaseUnusable(Exception):
    """The file cannot be opened as a database of this version; the message says why and what helps."""


class Base(DeclarativeBase):
    """Root of every table."""


class Tenant(Base):
    """An owner of keys and adapters."""

    __tablename__ = "tenants"

    name: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[int]


def open_database(location: str | Path, *, busy_seconds: float = 10.0) -> Engine:
    """Open (or create) the database at a path or `sqlite:///` URL; safe to use from many threads.

    A transaction waits at most `busy_seconds` for the locks of others.

    Raises:
        DatabaseUnusable: not SQLite, not a file, not ours, or of a schema version this program does not know.
    """
    # As many connections as the API has threads: none waits for a connection while another only reads.
    engine = create_engine(
        _url(location), pool_size=8, max_overflow=56, connect_args={"timeout": busy_seconds, "isolation_level": None}
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    try:
        with engine.execution_options(immediate=True).begin() as connection:
            _check_schema(connection)
            Base.metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except DBAPIError as error:
        engine.dispose()
        raise DatabaseUnusable(f"{engine.url.database} cannot be opened as a database: {error.orig}") from error
    except DatabaseUnusable:
        engine.dispose()
        raise
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """Give a session that sees one consistent state and changes nothing.

    Raises:
        ServerOverloaded, InsufficientStorage: see `writing`.
    """
    with _told_plainly(), Session(engine) as session:
        yield session


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """Give a session that holds the write lock from its start; commits at the end, rolls back on any error.

    What it reads cannot change before it writes, so no conflict has to be retried.

    Raises:
        ServerOverloaded: other writers held the lock for the engine's `busy_seconds`.
        InsufficientStorage: the disk is full; nothing was written.
    """
    with _told_plainly(), Session(engine.execution_options(immediate=True)) as session, session.begin():
        # Locks now: a session connects, and so begins, only at its first statement.
        session.connection()
        yield session


def ensure_tenant(session: Session, name: str) -> None:
    """Create the tenant where it is not there; call it within `writing`.

    Raises:
        InvalidRequest: the name is malformed.
    """
    if _TENANT.fullmatch(name) is None:
        raise InvalidRequest(
            "A tenant has 1 to 63 characters of a-z, 0-9, '.', '_' and '-', and starts with a letter or digit.",
            param="tenant",
        )
    if session.get(Tenant, name) is None:
        session.add(Tenant(name=name, created=int(time.time())))
        session.flush()


def _url(location: str | Path) -> str:
    text = str(location)
    if "://" not in text:
        text = f"sqlite:///{text}"
    url = make_url(text)
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        shown = url.render_as_string(hide_password=True)
        raise DatabaseUnusable(f"{shown} is not a database headmix can use: it needs the path of an SQLite file.")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    return text


def _prepare(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    for pragma in _PRAGMAS:
        connection.execute(pragma).close()


def _begin(connection: Connection) -> None:
    # The driver's own transaction control, switched off by `isolation_level`, begins late and never IMMEDIATE.
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _check_schema(connection: Connection) -> None:
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
    place = connection.engine.url.database
    if version == 0 and tables:
        raise DatabaseUnusable(f"{place} is a database, but not one of headmix; choose another data folder.")
    if version not in (0, SCHEMA_VERSION):
        raise DatabaseUnusable(
            f"{place} has schema version {version}, and this headmix knows only version {SCHEMA_VERSION}; "
            "use the headmix that wrote it, or another data folder."
        )


@contextmanager
def _told_plainly() -> Iterator[None]:
    """Turn the two faults of a database that are nobody's bug into errors with a code."""
    try:
        yield
    except DBAPIError as error:
        plain = _plain(error.orig)
        if plain is None:
            raise
        raise plain from error


def _plain(fault: BaseException | None) -> HeadmixServerError | None:
    # The low byte is SQLite's primary result code.
    code = fault.sqlite_errorcode & 0xFF if isinstance(fault, sqlite3.Error) else None
    if code == sqlite3.SQLITE_FULL:
        return InsufficientStorage("The disk of the catalog is full; nothing was written.")
    if code == sqlite3.SQLITE_BUSY:
        return ServerOverloaded("The catalog is busy; try again.", retry_after=1)
    return None
