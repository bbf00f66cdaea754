"""Fixtures for the client's tests."""

from collections.abc import Iterator

import pytest

from headmix import Client
from headmix.config import API_KEY_VARIABLE, BASE_URL_VARIABLE
from tests.client.fake_server import FakeServer


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own server settings out of the tests."""
    for name in (BASE_URL_VARIABLE, API_KEY_VARIABLE, "HEADMIX_MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A real HTTP server on a free port."""
    with FakeServer().running() as running:
        yield running


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    """A client for that server."""
    with Client(server.url, "hm_key") as client:
        yield client


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Retries do not wait; the list receives how long they would have waited."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("headmix.http.sender.time.sleep", waited.append)
    monkeypatch.setattr("headmix.http.sender.asyncio.sleep", sleep)
    return waited
