import sqlite3
import threading
from contextlib import nullcontext
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, select
from structlog.testing import capture_logs

from headmix_server.core.errors import InsufficientStorage, InvalidRequest, ServerOverloaded, StorageUnavailable
from headmix_server.database import DatabaseUnusable, Tenant, ensure_tenant, open_database, reading, writing
from headmix_server.database.connection import sqlite
from tests.support.storage.databases import PostgresServer


def test_a_confirmed_commit_is_on_the_disk_and_foreign_keys_are_checked(tmp_path: Path) -> None:
    with reading(open_database(tmp_path / "new" / "folder" / "catalog.db")) as session:
        pragmas = {
            name: session.connection().exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    full = 2
    assert pragmas == {"journal_mode": "wal", "synchronous": full, "foreign_keys": 1}


def test_the_log_says_how_the_database_is_used(empty_database_url: str) -> None:
    with capture_logs() as lines:
        engine = open_database(empty_database_url)
    engine.dispose()
    (line,) = [line for line in lines if line["event"] == "database"]
    assert line["compiled"] is True
    if engine.dialect.name == "postgresql":
        assert line["driver"] == "psycopg binary"
    else:
        assert line["journal"] == "wal"


def test_a_file_system_without_a_write_ahead_log_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_PRAGMAS", ("PRAGMA journal_mode = DELETE",))
    with capture_logs() as lines:
        open_database(tmp_path / "catalog.db").dispose()
    assert [line["log_level"] for line in lines if line.get("journal") == "delete"] == ["info", "warning"]


def test_what_was_written_is_there_after_reopening(empty_database_url: str) -> None:
    engine = open_database(empty_database_url)
    with writing(engine) as session:
        ensure_tenant(session, "acme")
        ensure_tenant(session, "acme")
    engine.dispose()
    engine = open_database(empty_database_url)
    with reading(engine) as session:
        assert session.scalars(select(Tenant.name)).all() == ["acme"]
    engine.dispose()


def test_a_connection_that_a_thread_returns_after_the_end_is_closed(empty_database_url: str) -> None:
    engine = open_database(empty_database_url)
    with engine.connect() as connection:
        held = connection.connection.driver_connection
        engine.dispose()
    assert held is not None
    with pytest.raises((sqlite3.ProgrammingError, psycopg.OperationalError), match="closed"):
        held.cursor()
    with reading(engine) as session:
        assert session.scalars(select(Tenant.name)).all() == []
    engine.dispose()


def test_a_text_with_a_nul_is_not_found_or_refused_and_never_an_internal_error(engine: Engine) -> None:
    refused = pytest.raises(InvalidRequest, match="NUL") if engine.dialect.name == "postgresql" else nullcontext()
    with refused, reading(engine) as session:
        assert session.scalars(select(Tenant.name).where(Tenant.name == "ac\0me")).all() == []


@pytest.mark.parametrize("location", [":memory:", "sqlite://", "mysql://user:secret@host/db", "://secret@"])
def test_only_files_of_sqlite_and_postgresql_are_taken_and_no_password_is_shown(location: str) -> None:
    with pytest.raises(DatabaseUnusable) as caught:
        open_database(location)
    assert "secret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_reported_without_the_password() -> None:
    with pytest.raises(DatabaseUnusable, match="cannot be opened") as caught:
        open_database("postgresql://user:secret@127.0.0.1:1/db")
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_text("not a database, but long enough to be read as one" * 40)
    with pytest.raises(DatabaseUnusable, match="cannot be opened"):
        open_database(tmp_path / "catalog.db")


def test_an_error_inside_a_transaction_leaves_nothing(engine: Engine) -> None:
    def fail_half_way() -> None:
        with writing(engine) as session:
            ensure_tenant(session, "acme")
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    with reading(engine) as session:
        assert session.get(Tenant, "acme") is None


def test_writers_in_many_threads_lose_no_update(engine: Engine) -> None:
    with writing(engine) as session:
        session.add(Tenant(name="count", created=0))

    def add() -> None:
        for _ in range(5):
            with writing(engine) as session:
                session.get_one(Tenant, "count").created += 1

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reading(engine) as session:
        assert session.get_one(Tenant, "count").created == 40


def test_readers_do_not_wait_for_a_writer_and_never_see_part_of_its_work(engine: Engine) -> None:
    with writing(engine) as writer:
        ensure_tenant(writer, "acme")
        with reading(engine) as reader:
            assert reader.get(Tenant, "acme") is None


def test_a_reader_sees_one_state_however_long_it_reads(engine: Engine) -> None:
    with reading(engine) as reader:
        assert reader.get(Tenant, "acme") is None
        with writing(engine) as writer:
            ensure_tenant(writer, "acme")
        assert reader.scalars(select(Tenant.name)).all() == []


def test_a_lock_that_is_never_released_is_reported_as_overload(empty_database_url: str) -> None:
    engine = open_database(empty_database_url, busy_seconds=0.05)
    with writing(engine), pytest.raises(ServerOverloaded) as caught, writing(engine) as second:
        # Not reached: the lock is taken at the start.
        ensure_tenant(second, "acme")
    assert caught.value.retry_after == 1
    engine.dispose()


def test_a_server_that_drops_its_connections_is_reported_as_unavailable_and_used_again(
    postgres: PostgresServer,
) -> None:
    engine = open_database(postgres.new_database())
    dropped = "SELECT pg_terminate_backend(pg_backend_pid())"
    with pytest.raises(StorageUnavailable, match="cannot be reached"), reading(engine) as session:
        session.connection().exec_driver_sql(dropped)
    with writing(engine) as session:
        ensure_tenant(session, "acme")
    engine.dispose()


def test_a_full_disk_is_reported_as_such_and_leaves_nothing(tmp_path: Path) -> None:
    engine = open_database(tmp_path / "catalog.db")

    def fill() -> None:
        with writing(engine) as session:
            pages = session.connection().exec_driver_sql("PRAGMA page_count").scalar_one()
            session.connection().exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            for number in range(1000):
                ensure_tenant(session, f"tenant-{number}")

    with pytest.raises(InsufficientStorage):
        fill()
    engine.dispose()
    with reading(engine) as session:
        assert session.get(Tenant, "tenant-0") is None


@pytest.mark.parametrize("name", ["", "Acme", "a/b", "a\n", "-a", "a" * 64])
def test_a_malformed_tenant_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest) as caught, writing(open_database(tmp_path / "catalog.db")) as session:
        ensure_tenant(session, name)
    assert caught.value.param == "tenant"


def test_a_foreign_database_is_refused_and_left_unchanged(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(DatabaseUnusable, match="not one of headmix"):
        open_database(tmp_path / "other.db")
    connection = sqlite3.connect(tmp_path / "other.db")
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    connection.close()
