import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy import Engine

from headmix_server.core.database import open_database
from tests.support.buckets import S3Server, s3_server
from tests.support.databases import PostgresServer, migrated_file, postgres_server
from tests.support.redis_server import RedisServer, redis_server


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with postgres_server(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A server for all tests that do not kill it."""
    with s3_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind the server can use."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/headmix.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An open database of each kind. Its migrations ran before: they are tested with `database_url`."""
    if request.param == "sqlite":
        file = tmp_path / "headmix.db"
        file.write_bytes(migrated_file())
        engine = open_database(file)
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        engine = open_database(server.migrated_database())
    yield engine
    engine.dispose()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Undoes at the end what a test configures."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("headmix_adapters").setLevel(logging.NOTSET)
    structlog.reset_defaults()
