from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.server.fake_engine import FakeEngine
from headmix_server.engine_client.client import EngineClient


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/e"


@pytest.fixture
async def client(endpoint: str) -> AsyncIterator[EngineClient]:
    client = EngineClient(max_open=2)
    client.attach(endpoint)
    yield client
    client.detach("the test is over")


@pytest.fixture
async def engine(client: EngineClient, endpoint: str) -> AsyncIterator[FakeEngine]:
    async with FakeEngine(endpoint) as engine:
        engine.answering = False
        await client.wait_ready()
        yield engine
