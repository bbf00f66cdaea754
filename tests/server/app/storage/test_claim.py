"""Claiming the database: the lease first, then the schema; and releasing it if startup fails."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from headmix_server.app.errors import StartError
from headmix_server.app.storage.claim import Claim, claim_database
from headmix_server.app.storage.data_folder import DataFolder
from headmix_server.core.settings.settings import Settings
from headmix_server.database import Holder, Lease, open_database
from tests.support.storage.databases import postgres_server

URL = "http://127.0.0.1:1"


@pytest.fixture
def claim(empty_database_url: str, tmp_path: Path) -> Callable[[str], Claim]:
    """Claim the database for a data folder with this name, with the shortest lease."""
    settings = Settings(database=SecretStr(empty_database_url), lease_seconds=1)

    def claim(name: str) -> Claim:
        folder = DataFolder(tmp_path / name, tmp_path / name / "run", name)
        return claim_database(settings, folder, URL, on_lost=lambda _: None)

    return claim


@contextmanager
def look_at(empty_database_url: str) -> Iterator[Engine]:
    engine = open_database(empty_database_url)
    yield engine
    engine.dispose()


def test_a_new_database_gets_its_schema_and_a_lease_that_names_the_server(
    claim: Callable[[str], Claim], empty_database_url: str
) -> None:
    claimed = claim("a")
    with look_at(empty_database_url) as engine:
        lease = Lease(engine, Holder("none", 1.0))
        seen = lease.look()
        assert seen.holder.endswith(f", {URL}")
        assert (seen.place, seen.seconds) == ("a", 1.0)
        assert claimed.keeper.refusal() is None
        claimed.close()
        assert lease.look().token is None


def test_while_another_server_lives_the_database_is_not_touched_not_even_its_schema(
    claim: Callable[[str], Claim], empty_database_url: str
) -> None:
    with look_at(empty_database_url) as engine:
        claimed = claim("a")
        with engine.begin() as connection:  # as another version of headmix would find it, older or newer
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(StartError, match=r"in use by another headmix server \(process .*stop that server"):
            claim("b")
        assert claimed.keeper.lost is None
        claimed.close()
        with pytest.raises(StartError, match="schema version 9999"):
            claim("b")
        assert Lease(engine, Holder("none", 1.0)).look().token is None


def test_an_unavailable_or_foreign_database_is_reported_plainly(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path, tmp_path / "run")
    for url in ("postgresql://user:secret@127.0.0.1:1/db", "mysql://user:secret@host/db"):
        with pytest.raises(StartError) as caught:
            claim_database(Settings(database=SecretStr(url)), folder, URL, on_lost=lambda _: None)
        assert "secret" not in str(caught.value)


def test_failures_of_the_database_are_passed_to_the_callers_that_watch(tmp_path: Path) -> None:
    seen: list[int] = []
    with postgres_server() as server:
        url = SecretStr(server.new_database())
        folder = DataFolder(tmp_path, tmp_path / "run")
        claimed = claim_database(Settings(database=url, lease_seconds=1), folder, URL, on_lost=lambda _: None)
        claimed.failures.watch(lambda: seen.append(1))
        server.kill()
        while not seen:
            claimed.keeper.beat()
        server.start()
        claimed.close()
