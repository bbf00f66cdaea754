"""Paginated lists are requested page by page, each page once."""

from headmix import AsyncClient, Client
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import ADAPTER, listing


def script(server: FakeServer) -> None:
    first = listing(ADAPTER | {"name": "a"}, ADAPTER | {"name": "b"}) | {"has_more": True}
    server.script("GET", "/v1/adapters?limit=1000", Reply.of(first))
    server.script("GET", "/v1/adapters?limit=1000&after=b", Reply.of(listing(ADAPTER | {"name": "c"})))
    newest = listing(ADAPTER | {"version": 9}) | {"has_more": True}
    server.script("GET", "/v1/adapters/tone/versions?limit=1000", Reply.of(newest))
    server.script("GET", "/v1/adapters/tone/versions?limit=1000&after=9", Reply.of(listing(ADAPTER | {"version": 8})))


def test_a_list_is_all_of_its_pages(server: FakeServer) -> None:
    script(server)
    with Client(server.url) as client:
        assert [adapter.name for adapter in client.adapters.list()] == ["a", "b", "c"]
        assert [version.version for version in client.adapters.versions("tone")] == [9, 8]
    assert len(server.received) == 4


async def test_a_list_is_all_of_its_pages_when_awaited(server: FakeServer) -> None:
    script(server)
    async with AsyncClient(server.url) as client:
        assert [adapter.name for adapter in await client.adapters.list()] == ["a", "b", "c"]
        assert [version.version for version in await client.adapters.versions("tone")] == [9, 8]
    assert len(server.received) == 4
