"""Databases for tests, on a real PostgreSQL server that the tests start themselves.

The server comes from the PyPI package `pgserver`. If it is not available, tests that need it are skipped and say so.
With HEADMIX_TESTS_NEED_POSTGRESQL set, as in CI, they fail instead.
"""

import itertools
import os
import select
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from headmix_server.database import open_database

if TYPE_CHECKING:
    from pgserver.postgres_server import PostgresServer as Process

NEEDED = "HEADMIX_TESTS_NEED_POSTGRESQL"


class PostgresServer:
    """A running server.

    Kill or freeze only one of your own: the other tests of a session share one.
    """

    def __init__(self, process: "Process") -> None:
        self._process = process
        self._url = process.get_uri()
        self._numbers = itertools.count()
        self._migrated: str | None = None

    def new_database(self, *, like: str = "template1") -> str:
        """Create a database, empty or a copy of an unused one, and return its URL."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {like} STRATEGY FILE_COPY")
        return self._url.replace("/postgres?", f"/{name}?")

    def drop(self, url: str) -> None:
        """Drop a database and every connection to it: each takes some 8 MB, and a session has hundreds."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {_name(url)} WITH (FORCE)")

    def without_fsync(self) -> None:
        """Leave writing to disk to the system: no test cuts the power, and what is written outlives a killed server."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")

    def migrated_database(self) -> str:
        """Create a database with the current schema, whose migrations run only once, and return its URL."""
        if self._migrated is None:
            url = self.new_database()
            open_database(url).dispose()
            self._migrated = _name(url)
        return self.new_database(like=self._migrated)

    def kill(self) -> None:
        """Kill it and every connection at once, as a crash of its machine would."""
        descriptor = os.pidfd_open(self._pid)
        os.kill(self._pid, signal.SIGQUIT)
        ended = select.select([descriptor], [], [], 30)[0]
        os.close(descriptor)
        if not ended:
            raise TimeoutError("PostgreSQL did not end")

    def start(self) -> None:
        """Start it again with the same data and address, and wait until it answers."""
        self._process.ensure_postgres_running()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze it during the block: connections stay open, but get no answers."""
        stopped = [self._pid]
        try:
            os.kill(self._pid, signal.SIGSTOP)  # first: from now on it starts no more
            children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text(encoding="ascii")
            stopped += map(int, children.split())
            _send(stopped[1:], signal.SIGSTOP)
            yield
        finally:
            _send(stopped, signal.SIGCONT)

    @property
    def _pid(self) -> int:
        pid = self._process.get_pid()
        if pid is None:
            raise RuntimeError("PostgreSQL does not run")
        return int(pid)


def _name(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def _send(processes: list[int], number: signal.Signals) -> None:
    """Send a signal to each process that still exists: one may have ended already without being reaped."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server; it stops at the end, and its data is removed.

    The data is outside pytest's folder: if root runs the tests, the server runs as another user, and each pytest that
    starts takes from other users the right to enter the folder that all of them share.
    """
    with tempfile.TemporaryDirectory(prefix="headmix-postgres-", ignore_cleanup_errors=True) as folder:
        yield from _served(Path(folder))


def _served(folder: Path) -> Iterator[PostgresServer]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs warns about an unset XDG_RUNTIME_DIR
            from pgserver.postgres_server import get_server

            server = get_server(folder)
    except Exception as error:
        if os.environ.get(NEEDED):
            raise
        pytest.skip(f"no PostgreSQL on this machine ({type(error).__name__}: {error}): what needs it is not tested")
    try:
        running = PostgresServer(server)
        running.without_fsync()
        yield running
    finally:
        server.cleanup()
