"""`headmix tenants adapters`: how administrators manage any tenant's adapters."""

import json

from tests.client.cli.conftest import Run
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import ADAPTER, DELETED, SHARING, listing

URL = "/v1/tenants/acme/adapters"


def test_a_tenants_adapters_and_versions_are_listed(server: FakeServer, run: Run) -> None:
    server.script("GET", f"{URL}?limit=1000", Reply.of(listing(ADAPTER)))
    server.script("GET", f"{URL}/tone/versions?limit=1000", Reply.of(listing(ADAPTER | {"state": "retired"})))
    assert "tone@3" in run("tenants", "adapters", "list", "acme").stdout
    assert json.loads(run("tenants", "adapters", "list", "acme", "--json").stdout)[0]["name"] == "tone"
    assert "retired" in run("tenants", "adapters", "versions", "acme/tone").stdout
    assert len(json.loads(run("tenants", "adapters", "versions", "acme/tone", "--json").stdout)) == 1


def test_adapters_are_removed_retired_unshared_and_unpinned(server: FakeServer, run: Run) -> None:
    server.script("DELETE", f"{URL}/tone", Reply.of(DELETED))
    server.script("DELETE", f"{URL}/tone/versions/2", Reply.of(DELETED | {"versions": [2]}))
    server.script("POST", f"{URL}/tone/versions/3/retire", Reply.of(ADAPTER | {"state": "retired"}))
    server.script("DELETE", f"{URL}/tone/sharing", Reply.of(SHARING | {"tenants": []}))
    server.script("DELETE", f"{URL}/tone/pin", Reply.of(ADAPTER))
    assert "acme/tone@1" in run("tenants", "adapters", "remove", "acme/tone", "--yes").stdout
    assert run("tenants", "adapters", "remove", "acme/tone@2", "-y").stdout == "removed acme/tone@2\n"
    assert run("tenants", "adapters", "retire", "acme/tone@3").stdout == "acme/tone@3 is retired\n"
    assert "no longer shared" in run("tenants", "adapters", "unshare", "acme/tone").stdout
    assert "not pinned" in run("tenants", "adapters", "unpin", "acme/tone").stdout


def test_nothing_is_sent_for_what_names_no_owner_or_no_version(server: FakeServer, run: Run) -> None:
    assert run("tenants", "adapters", "remove", "tone", "--yes").exit_code != 0
    assert run("tenants", "adapters", "retire", "acme/tone").exit_code == 2
    assert run("tenants", "adapters", "remove", "acme/tone").exit_code != 0
    assert server.received == []
