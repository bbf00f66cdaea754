"""Database errors that are not bugs, translated into the server's own errors for every driver."""

import sqlite3

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft

from headmix_server.core.errors import (
    HeadmixServerError,
    InsufficientStorage,
    InvalidRequest,
    ServerOverloaded,
    StorageUnavailable,
)


class DatabaseUnusable(Exception):
    """It cannot be opened as a database of this version; the message gives the reason and the remedy."""


class DatabaseUnreachable(DatabaseUnusable):
    """It is unavailable at the moment."""


def plain_fault(error: DBAPIError | NoConnectionLeft) -> HeadmixServerError | None:
    """Return the server's error for a full disk, a busy or unavailable database, or a text that it cannot store.

    None for any other error.
    """
    if isinstance(error, NoConnectionLeft):
        return busy()
    fault = error.orig
    if isinstance(fault, sqlite3.Error):
        return _sqlite_fault(fault)
    if isinstance(fault, psycopg.Error):
        return unreachable() if error.connection_invalidated else _postgres_fault(fault)
    return None


def unreachable() -> StorageUnavailable:
    """Return the error for a database that is unavailable."""
    return StorageUnavailable("The database cannot be reached; nothing was changed. Try again.")


def _unwritable() -> HeadmixServerError:
    return StorageUnavailable("The database cannot be read or written at the moment; the log says why. Try again.")


def _full() -> HeadmixServerError:
    return InsufficientStorage("The disk of the catalog is full; nothing was written.")


def busy() -> ServerOverloaded:
    """Return the error for a database that is kept busy by others."""
    return ServerOverloaded("The catalog is busy; try again.")


def _sqlite_fault(fault: sqlite3.Error) -> HeadmixServerError | None:
    # The low byte is the primary result code.
    match getattr(fault, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return _full()
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return busy()
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return _unwritable()
    return None


def _postgres_fault(fault: psycopg.Error) -> HeadmixServerError | None:
    if isinstance(fault, psycopg.DataError) and fault.sqlstate is None and "NUL" in str(fault):
        # The driver refuses such a text. SQLite accepts it, and finds nothing of that name.
        return InvalidRequest("A text contains the character NUL, which no name may contain.")
    if fault.sqlstate is None:  # the driver never reached the server, or lost it
        return unreachable() if isinstance(fault, psycopg.OperationalError | psycopg.InterfaceError) else None
    return _by_state(fault.sqlstate)


def _by_state(state: str) -> HeadmixServerError | None:
    """Return the error for an SQLSTATE; see appendix A of PostgreSQL's manual."""
    if state == "53100":
        return _full()
    if state in ("25006", "58030"):  # a standby that is not the primary yet; a failing disk
        return _unwritable()
    # Busy: a lock that is not released, a cancelled statement, too many connections, too little memory, a deadlock.
    if state in ("55P03", "57014") or state[:2] in ("53", "40"):
        return busy()
    # Unavailable: the connection is lost, the server is stopping or starting, or it no longer lets us in.
    if state[:3] == "57P" or state[:2] in ("08", "28", "3D"):
        return unreachable()
    return None
