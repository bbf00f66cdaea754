"""Claims the database for this server: opens it, takes its lease, and only then updates its schema."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Engine

from headmix_server.app.errors import SettingError, StartError, StartStopped
from headmix_server.app.storage.data_folder import DataFolder
from headmix_server.app.storage.lease_keeper import LeaseKeeper, steady_clock
from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.settings.names import called
from headmix_server.core.settings.settings import Settings
from headmix_server.database import (
    DatabaseUnreachable,
    DatabaseUnusable,
    Holder,
    Lease,
    LeaseHeldError,
    connect_database,
    ensure_lease,
    take_lease,
    upgrade_database,
)


class Failures:
    """Forwards failures to reach the database to the current watcher."""

    def __init__(self) -> None:
        self._tell: Callable[[], None] = lambda: None

    def watch(self, tell: Callable[[], None]) -> None:
        """Call `tell` with every failure from now on, in any thread."""
        self._tell = tell

    def __call__(self) -> None:
        """Forward one failure."""
        self._tell()


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed database. Nothing is written through `database` after the lease is lost.

    `unfenced` is the same without that check: for sums that remain correct whichever server adds to them.
    """

    database: Engine
    unfenced: Engine
    keeper: LeaseKeeper
    failures: Failures

    def close(self) -> None:
        """Release the lease and close the database."""
        self.keeper.close()
        self.unfenced.dispose()


def claim_database(
    settings: Settings,
    folder: DataFolder,
    url: str,
    *,
    on_lost: Callable[[str], None],
    is_stopping: Callable[[], bool] = lambda: False,
) -> Claim:
    """Open the database and take its lease; `url` is this server's, `on_lost` as in `LeaseKeeper`.

    The schema is only touched with the lease: a newer headmix must not migrate it under a running server.

    Raises:
        StartStopped: `is_stopping` became true during the wait for another server's lease.
        SettingError: the database cannot be used as set.
        StartError: the database does not respond, or another server uses it.
    """
    failures = Failures()
    name = f"process {os.getpid()} on {socket.gethostname()}, {url}"
    with ExitStack() as opened, _told_plainly(settings):
        location = folder.database if settings.database is None else settings.database.get_secret_value()
        engine = connect_database(location, on_failure=failures)
        opened.callback(engine.dispose)
        ensure_lease(engine)
        lease = Lease(engine, Holder(name, settings.lease_seconds, folder.place))
        taken_at = take_lease(lease, clock=steady_clock, sleep=partial(_sleep, is_stopping))
        # The lock on the data folder keeps any other server from using the database file in it.
        keeper = LeaseKeeper(lease, taken_at, on_lost=on_lost, locked=settings.database is None)
        keeper.start()
        opened.callback(keeper.close)
        upgrade_database(engine)
        opened.pop_all()
    return Claim(engine.execution_options(fence=keeper.fence), engine, keeper, failures)


@contextmanager
def _told_plainly(settings: Settings) -> Iterator[None]:
    try:
        yield
    except LeaseHeldError as error:
        raise StartError(f"{error}; stop that server, or start with another database") from error
    except DatabaseUnreachable as error:
        raise StartError(f"{called('database')}: {error}" if settings.database else str(error)) from error
    except DatabaseUnusable as error:
        if settings.database is None:
            raise StartError(str(error)) from error
        raise SettingError("database", f"cannot be used: {error}") from error
    except HeadmixServerError as error:
        raise StartError(error.message) from error


def _sleep(is_stopping: Callable[[], bool], seconds: float) -> None:
    if is_stopping():
        raise StartStopped
    time.sleep(seconds)
