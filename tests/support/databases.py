"""Databases for tests: SQLite files, and databases of a real PostgreSQL server that the tests start themselves.

The server is the PyPI package `pgserver`'s. Where it cannot be had its tests are skipped and say so
HEADMIX_TESTS_NEED_POSTGRESQL set, as in CI, they fail instead.
"""

import itertools
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

NEEDED = "HEADMIX_TESTS_NEED_POSTGRESQL"


class PostgresServer:
    """A running server; `new_database` makes an empty database and returns its URL."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = itertools.count()

    def new_database(self) -> str:
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self._url.replace("/postgres?", f"/{name}?")


@contextmanager
def postgres_server(folder: Path) -> Iterator[PostgresServer]:
    """Start a server with its data in the folder; it stops at the end."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs remarks on an unset XDG_RUNTIME_DIR
            from pgserver.postgres_server import get_server

            server = get_server(folder)
    except Exception as error:
        if os.environ.get(NEEDED):
            raise
        pytest.skip(f"no PostgreSQL on this machine ({type(error).__name__}: {error}): what needs it is not tested")
    try:
        yield PostgresServer(server.get_uri())
    finally:
        server.cleanup()
