"""The URL of a database: its kind, whether it is valid, and how it is shown without its password."""

from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from headmix_server.database.connection.faults import DatabaseUnusable

TAKES = "it takes postgresql://user:password@host/name, or sqlite:///path/to/file"


def read_url(location: str | Path) -> URL:
    """Return the URL of a database; a path means an SQLite file.

    Raises:
        DatabaseUnusable: it is not a URL, or of another kind of database.
    """
    text = str(location)
    try:
        url = make_url(text if "://" in text else f"sqlite:///{text}")
    except (ArgumentError, ValueError) as error:  # both messages would show the password
        raise DatabaseUnusable(f"cannot be read as the URL of a database; {TAKES}") from error
    if url.drivername == "postgres":  # PostgreSQL's own programs accept both
        url = url.set(drivername="postgresql")
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise DatabaseUnusable(f"is the URL of another kind of database, {url.get_backend_name()}; {TAKES}")
    return url


def check_url(text: str) -> None:
    """Check that a text is a valid database URL, without connecting.

    Raises:
        DatabaseUnusable: it is not; the message does not show its password.
    """
    if "://" not in text:
        raise DatabaseUnusable(f"is not a URL; {TAKES}")
    url = read_url(text)
    if is_postgres(url):
        _check_postgres(url)
    elif not url.database or url.database == ":memory:":
        raise DatabaseUnusable(f"names no file for SQLite; {TAKES}")


def _check_postgres(url: URL) -> None:
    if url.port is not None and not 0 < url.port < 65536:
        raise DatabaseUnusable(f"has the port {url.port}, and ports go from 1 to 65535")
    try:
        make_conninfo("", **{name: str(value) for name, value in url.query.items()})
    except psycopg.Error as error:
        raise DatabaseUnusable(f"has an option that PostgreSQL does not know: {str(error).strip()}") from error


def is_postgres(url: URL) -> bool:
    """Return whether it is a PostgreSQL URL; all others are for SQLite."""
    return url.get_backend_name() == "postgresql"


def shown(url: URL) -> str:
    """Return the URL without its password; for a file, only the path."""
    if url.database and not is_postgres(url):
        return url.database
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)
