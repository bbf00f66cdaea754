"""Transactions that read or write."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft
from sqlalchemy.orm import Session

from headmix_server.core.errors import InvalidRequest
from headmix_server.core.turns import SERVER as SERVER_TURN
from headmix_server.database.base import Tenant
from headmix_server.database.connection.faults import plain_fault
from headmix_server.database.connection.patience import USUAL, with_patience
from headmix_server.database.write_turns import WriteTurns

Fence = Callable[[Session], None]
"""Raises an error in a transaction that must no longer write. Called under the write lock, so its verdict stands."""

_TENANT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@contextmanager
def reading(engine: Engine, *, patience: float = USUAL) -> Iterator[Session]:
    """Yield a session that sees one consistent state and changes nothing.

    `patience` is how many seconds the database may be silent.

    Raises:
        StorageUnavailable, ServerOverloaded, InsufficientStorage: see `writing`.
    """
    with _told_plainly(), Session(engine.execution_options(**with_patience(patience))) as session:
        yield session


@contextmanager
def writing(engine: Engine, tenant: str = SERVER_TURN) -> Iterator[Session]:
    """Yield a session that holds the write lock from its start; commits at the end, rolls back on any error.

    What it reads cannot change before it writes, so conflicts never have to be retried. All other writes wait in the
    meantime, so nothing slow belongs in the block. `tenant` is whose write it is: tenants take turns, and the server's
    own writes go first (see `WriteTurns`). If the engine has the execution option `fence`, it is called first: see
    `Fence`.

    Raises:
        ServerOverloaded: other writers took longer than the engine's `busy_seconds`, or too many of the tenant's wait.
        StorageUnavailable: the database is unavailable. If it failed during the commit, it is unknown whether the
            change was made.
        InsufficientStorage: the disk is full; nothing was written.
    """
    turns: WriteTurns = engine.get_execution_options()["write_turns"]
    with (
        turns.turn(tenant),
        _told_plainly(),
        Session(engine.execution_options(immediate=True)) as session,
        session.begin(),
    ):
        # Lock now: otherwise the session would connect, and so begin, only at its first statement.
        session.connection()
        fence: Fence | None = engine.get_execution_options().get("fence")
        if fence is not None:
            fence(session)
        yield session


def ensure_tenant(session: Session, name: str) -> None:
    """Create the tenant if it does not exist; call it within `writing`.

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


@contextmanager
def _told_plainly() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, NoConnectionLeft) as error:
        plain = plain_fault(error)
        if plain is None:
            raise
        raise plain from error
