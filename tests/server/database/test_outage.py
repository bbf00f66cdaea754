"""An unavailable database: reported as such, quickly, and used again once it is back."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft

from headmix_server.core.errors import (
    HeadmixServerError,
    InsufficientStorage,
    ServerOverloaded,
    StorageUnavailable,
)
from headmix_server.database import Tenant, ensure_tenant, open_database, reading, writing
from headmix_server.database.connection import postgres
from headmix_server.database.connection.faults import plain_fault
from tests.support.storage.databases import PostgresServer, postgres_server


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that a test may kill or freeze."""
    with postgres_server() as server:
        yield server


def _ask(engine: Engine, **patience: float) -> None:
    with reading(engine, **patience) as session:
        session.scalars(select(Tenant.name)).all()


def _refused(engine: Engine) -> None:
    with pytest.raises(StorageUnavailable, match="cannot be reached"):
        _ask(engine)


def test_a_lost_server_is_reported_as_unavailable_and_found_again_without_a_restart(own_server: PostgresServer) -> None:
    failures: list[int] = []
    engine = open_database(own_server.new_database(), on_failure=lambda: failures.append(1))
    _ask(engine)
    own_server.kill()
    for _ in range(10):
        _refused(engine)
    with pytest.raises(StorageUnavailable), writing(engine) as session:
        ensure_tenant(session, "acme")
    assert 1 <= len(failures) < 11, "everybody tried by himself"
    own_server.start()
    end = time.monotonic() + 30
    while True:
        try:
            _ask(engine)
        except StorageUnavailable:
            assert time.monotonic() < end
        else:
            break
    with reading(engine) as session:
        assert session.get(Tenant, "acme") is None
    engine.dispose()


def test_a_hung_server_is_waited_for_once_and_not_again(
    own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "PING_SECONDS", 0.2)
    monkeypatch.setattr(postgres, "CONNECT_SECONDS", 2)
    failures: list[int] = []
    engine = open_database(own_server.new_database(), on_failure=lambda: failures.append(1))
    _ask(engine)
    with own_server.frozen():
        _refused(engine)
        for _ in range(20):
            _refused(engine)
        assert len(failures) == 1
    end = time.monotonic() + 30
    while not _answers(engine):
        assert time.monotonic() < end
    engine.dispose()


def _answers(engine: Engine) -> bool:
    try:
        _ask(engine)
    except StorageUnavailable:
        return False
    return True


def test_an_unanswered_statement_fails_after_its_patience(own_server: PostgresServer) -> None:
    engine = open_database(own_server.new_database())
    begun, frozen = threading.Event(), threading.Event()
    ends: list[Exception] = []

    def read() -> None:
        try:
            with reading(engine, patience=0.3) as session:
                session.scalars(select(Tenant.name)).all()
                begun.set()
                frozen.wait(30)
                session.scalars(select(Tenant.created)).all()
        except HeadmixServerError as error:
            ends.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    begun.wait(30)
    with own_server.frozen():
        frozen.set()
        reader.join(30)
    assert [type(end) for end in ends] == [StorageUnavailable]
    _ask(engine)
    engine.dispose()


def test_a_slow_response_does_not_make_the_server_unavailable_to_others(own_server: PostgresServer) -> None:
    engine = open_database(own_server.new_database())
    with pytest.raises(StorageUnavailable), reading(engine, patience=0.2) as session:
        session.connection().exec_driver_sql("SELECT pg_sleep(5)")
    _ask(engine)
    engine.dispose()


def _state(state: str) -> psycopg.Error:
    return psycopg.errors.lookup(state)("told by the server")


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (
            ["08000", "08006", "57P01", "57P02", "57P03", "28P01", "28000", "3D000", "25006", "58030"],
            StorageUnavailable,
        ),
        (["53300", "53200", "55P03", "57014", "40001", "40P01"], ServerOverloaded),
        (["53100"], InsufficientStorage),
        (["42601", "23505", "XX000"], type(None)),
    ],
)
def test_each_state_of_postgresql_becomes_an_error_a_client_can_act_on(states: list[str], told: type) -> None:
    for state in states:
        fault = _state(state)
        assert type(plain_fault(OperationalError("", {}, fault))) is told, state


@pytest.mark.parametrize(
    "fault", [psycopg.OperationalError("lost"), psycopg.InterfaceError("the connection is closed")]
)
def test_a_lost_connection_is_reported_as_unavailable(fault: psycopg.Error) -> None:
    assert isinstance(plain_fault(OperationalError("", {}, fault)), StorageUnavailable)


def test_no_connection_left_is_reported_as_overload() -> None:
    assert isinstance(plain_fault(NoConnectionLeft("the pool is empty")), ServerOverloaded)


def test_an_sqlite_file_that_can_no_longer_be_opened_is_reported_as_unavailable(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    engine = open_database(folder / "headmix.db")
    engine.dispose()
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(StorageUnavailable, match="cannot be read or written"):
        _ask(engine)
    (tmp_path / "elsewhere").rename(folder)
    _ask(engine)
    engine.dispose()


def test_an_sqlite_file_on_a_failing_disk_is_reported_as_unavailable() -> None:
    fault = sqlite3.OperationalError("disk I/O error")
    fault.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
    assert isinstance(plain_fault(OperationalError("", {}, fault)), StorageUnavailable)
