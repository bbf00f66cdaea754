import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import select

from headmix_server.core.database import (
    SCHEMA_VERSION,
    DatabaseUnusable,
    Tenant,
    ensure_tenant,
    open_database,
    reading,
    writing,
)
from headmix_server.core.errors import InsufficientStorage, InvalidRequest, ServerOverloaded


def test_a_commit_that_was_answered_is_on_the_disk_and_references_are_checked(tmp_path: Path) -> None:
    with reading(open_database(tmp_path / "new" / "folder" / "catalog.db")) as session:
        pragmas = {
            name: session.connection().exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    full = 2
    assert pragmas == {"journal_mode": "wal", "synchronous": full, "foreign_keys": 1}


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/catalog.db")
    with writing(engine) as session:
        ensure_tenant(session, "acme")
        ensure_tenant(session, "acme")
    engine.dispose()
    with reading(open_database(tmp_path / "catalog.db")) as session:
        assert session.scalars(select(Tenant.name)).all() == ["acme"]


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 999])
def test_a_schema_of_another_version_is_refused_with_both_numbers(tmp_path: Path, version: int) -> None:
    open_database(tmp_path / "catalog.db").dispose()
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(DatabaseUnusable, match=f"version {version}.*only version {SCHEMA_VERSION}"):
        open_database(tmp_path / "catalog.db")


def test_somebody_elses_database_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(DatabaseUnusable, match="not one of headmix"):
        open_database(tmp_path / "other.db")
    connection = sqlite3.connect(tmp_path / "other.db")
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    connection.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_text("not a database, but long enough to be read as one" * 40)
    with pytest.raises(DatabaseUnusable, match="cannot be opened"):
        open_database(tmp_path / "catalog.db")


@pytest.mark.parametrize("location", [":memory:", "sqlite://", "postgresql://user:secret@host/db"])
def test_only_files_of_sqlite_are_taken_and_no_password_is_shown(location: str) -> None:
    with pytest.raises(DatabaseUnusable) as caught:
        open_database(location)
    assert "secret" not in str(caught.value)


def test_an_error_inside_a_transaction_leaves_nothing(tmp_path: Path) -> None:
    engine = open_database(tmp_path / "catalog.db")

    def fail_half_way() -> None:
        with writing(engine) as session:
            ensure_tenant(session, "acme")
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    with reading(engine) as session:
        assert session.get(Tenant, "acme") is None


def test_writers_in_many_threads_lose_no_update(tmp_path: Path) -> None:
    engine = open_database(tmp_path / "catalog.db")
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


def test_readers_do_not_wait_for_a_writer_and_see_no_half_of_its_work(tmp_path: Path) -> None:
    engine = open_database(tmp_path / "catalog.db")
    with writing(engine) as writer:
        ensure_tenant(writer, "acme")
        with reading(engine) as reader:
            assert reader.get(Tenant, "acme") is None


def test_a_lock_that_is_never_given_up_is_told_as_overload(tmp_path: Path) -> None:
    engine = open_database(tmp_path / "catalog.db", busy_seconds=0.05)
    with writing(engine), pytest.raises(ServerOverloaded) as caught, writing(engine) as second:
        # Not reached: the lock is asked for at the start.
        ensure_tenant(second, "acme")
    assert caught.value.retry_after == 1


def test_a_full_disk_is_told_as_such_and_leaves_nothing(tmp_path: Path) -> None:
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
