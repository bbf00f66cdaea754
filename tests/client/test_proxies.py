"""The environment's proxies apply to remote servers; one on this machine is reached directly."""

import socket

import pytest

from headmix import APIConnectionError, AsyncClient, Client
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import BASE_MODEL, listing

PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


def set_proxy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in PROXIES:
        monkeypatch.setenv(name, url)


async def test_a_server_on_this_machine_is_asked_directly(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.script("GET", "/v1/models", Reply.of(listing(BASE_MODEL)))
    set_proxy(monkeypatch, "http://127.0.0.1:9")
    with Client(server.url, max_retries=0) as client:
        assert client.models.base().id == "small"
    async with AsyncClient(server.url, max_retries=0) as client:
        assert (await client.models.base()).id == "small"


async def test_one_elsewhere_is_asked_through_the_proxy(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = "http://headmix.example.com"
    server.script("GET", f"{elsewhere}/v1/models", Reply.of(listing(BASE_MODEL)))
    set_proxy(monkeypatch, server.url)
    with Client(elsewhere, max_retries=0) as client:
        assert client.models.base().id == "small"
    async with AsyncClient(elsewhere, max_retries=0) as client:
        assert (await client.models.base()).id == "small"


async def test_a_refused_connection_asks_whether_the_server_runs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    told = f"^no connection to {url}: refused; is the server running\\?$"
    with Client(url, max_retries=0) as client, pytest.raises(APIConnectionError, match=told) as caught:
        client.models.list()
    assert not caught.value.sent
    async with AsyncClient(url, max_retries=0) as client:
        with pytest.raises(APIConnectionError, match=told):
            await client.models.list()


def test_an_unreachable_host_is_reported_as_such() -> None:
    with Client("http://no-such-host.invalid", max_retries=0) as client, pytest.raises(APIConnectionError) as caught:
        client.models.list()
    assert "is the server running" not in str(caught.value)
