"""What can be wrong with a database that is nobody's bug, told plainly whatever the driver."""

import sqlite3

import psycopg
from sqlalchemy.exc import DBAPIError

from headmix_server.core.errors import HeadmixServerError, InsufficientStorage, InvalidRequest, ServerOverloaded

RETRY_SECONDS = 1


class DatabaseUnusable(Exception):
    """It cannot be opened as a database of this version; the message says why and what helps."""


def plain_fault(error: DBAPIError) -> HeadmixServerError | None:
    """Return the error with a code for a full disk, a lock not given up, a lost connection or a text that cannot be.

    None for any other.
    """
    fault = error.orig
    if isinstance(fault, sqlite3.Error):
        return _sqlite_fault(fault)
    if isinstance(fault, psycopg.Error):
        return _postgres_fault(fault)
    return None


def _full() -> HeadmixServerError:
    return InsufficientStorage("The disk of the catalog is full; nothing was written.")


def _busy() -> HeadmixServerError:
    return ServerOverloaded("The catalog is busy; try again.", retry_after=RETRY_SECONDS)


def _sqlite_fault(fault: sqlite3.Error) -> HeadmixServerError | None:
    # The low byte is the primary result code.
    match getattr(fault, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return _full()
        case sqlite3.SQLITE_BUSY:
            return _busy()
    return None


def _postgres_fault(fault: psycopg.Error) -> HeadmixServerError | None:
    if isinstance(fault, psycopg.errors.DiskFull):
        return _full()
    if isinstance(fault, psycopg.errors.LockNotAvailable | psycopg.errors.TooManyConnections):
        return _busy()
    if isinstance(fault, psycopg.DataError) and fault.sqlstate is None and "NUL" in str(fault):
        # The driver's own refusal. SQLite takes such a text, and finds nothing that is called so.
        return InvalidRequest("A text holds the character NUL, which nothing here is called by.")
    # Class 08 is a lost connection, 57P a server that shuts down; without a state the driver never reached it.
    if isinstance(fault, psycopg.OperationalError) and (fault.sqlstate or "08")[:3] in ("08", "080", "57P"):
        return ServerOverloaded("The catalog's database cannot be reached; try again.", retry_after=RETRY_SECONDS)
    return None
