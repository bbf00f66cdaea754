from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from harness.bases.base_folder import write_base_folder
from harness.server.api_rig import ApiRig, api_rig
from harness.server.migrated_file import migrated_file
from harness.server.s3_server import S3Server, s3_server
from headmix_server.database import connect_database
from tests.support.storage.databases import PostgresServer, postgres_server
from tests.support.storage.redis_server import RedisServer, redis_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One server for all tests that do not kill it."""
    with s3_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of database the server supports."""
    return str(request.param)


@pytest.fixture
def empty_database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a schema."""
    if database_kind == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.new_database()
    yield url
    server.drop(url)


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database with the current schema. Migrations are tested with `empty_database_url`."""
    if database_kind == "sqlite":
        file = tmp_path / "headmix.db"
        file.write_bytes(migrated_file())
        yield f"sqlite:///{file}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.migrated_database()
    yield url
    server.drop(url)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An open database of each kind."""
    engine = connect_database(database_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One base folder for all tests of the API."""
    return write_base_folder(tmp_path_factory.mktemp("api") / "base")


@pytest.fixture
def rig_settings() -> dict[str, str]:
    """Settings of `rig`. A module that returns `{"database": database_url}` runs its tests on each kind of database."""
    return {}


@pytest.fixture
async def rig(base_folder: Path, tmp_path: Path, rig_settings: dict[str, str]) -> AsyncIterator[ApiRig]:
    """A running server for each test."""
    async with api_rig(base_folder, tmp_path, settings=rig_settings) as running:
        yield running


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server
