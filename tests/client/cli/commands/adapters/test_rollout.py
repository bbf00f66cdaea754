"""`headmix adapters` share, pin, canary and related commands."""

import json

import pytest

from tests.client.cli.conftest import Run
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import ADAPTER, DIGEST, SHARING, listing

TONE = f"tone@3 {DIGEST}"


def test_sharing_says_with_whom(server: FakeServer, run: Run) -> None:
    everyone, nobody = (SHARING | {"everyone": to_all, "tenants": []} for to_all in (True, False))
    server.script("PUT", "/v1/adapters/tone/sharing", Reply.of(SHARING), Reply.of(everyone))
    server.script("GET", "/v1/adapters/tone/sharing", Reply.of(SHARING))
    server.script("DELETE", "/v1/adapters/tone/sharing", Reply.of(nobody))
    assert run("adapters", "share", "tone", "--tenant", "acme", "--tenant", "zoo").stdout == (
        "tone is shared with acme, zoo\n"
    )
    assert server.last.json == {"tenants": ["acme", "zoo"]}
    assert run("adapters", "share", "tone", "--everyone").stdout == "tone is shared with everyone\n"
    assert server.last.json == {"everyone": True}
    assert "acme, zoo" in run("adapters", "sharing", "tone").stdout
    assert json.loads(run("adapters", "sharing", "tone", "--json").stdout)["tenants"] == ["acme", "zoo"]
    assert run("adapters", "unshare", "tone").stdout == "tone is shared with nobody\n"


@pytest.mark.parametrize(
    "words",
    [
        ("share", "tone"),
        ("share", "tone", "--everyone", "--tenant", "acme"),
        ("canary", "tone"),
        ("canary", "tone", "--version", "4"),
        ("canary", "tone", "--percent", "5"),
        ("canary", "tone", "--end", "--version", "4", "--percent", "5"),
        ("canary", "tone", "--version", "4", "--percent", "101"),
    ],
)
def test_half_a_wish_is_wrong_usage(server: FakeServer, run: Run, words: tuple[str, ...]) -> None:
    assert run("adapters", *words).exit_code == 2
    assert server.received == []


def test_a_name_is_pinned_and_unpinned(server: FakeServer, run: Run) -> None:
    for method in ("POST", "DELETE"):
        server.script(method, "/v1/adapters/tone/pin", Reply.of(ADAPTER))
    assert run("adapters", "pin", "tone").stdout == f"{TONE} is pinned\n"
    assert run("adapters", "unpin", "tone").stdout == f"{TONE} is not pinned\n"


def test_a_canary_is_started_ended_and_promoted(server: FakeServer, run: Run) -> None:
    for method in ("PUT", "DELETE"):
        server.script(method, "/v1/adapters/tone/canary", Reply.of(ADAPTER))
    server.script("POST", "/v1/adapters/tone/canary/promote", Reply.of(ADAPTER))
    started = run("adapters", "canary", "tone", "--version", "4", "--percent", "10").stdout
    assert started == f"tone@4 gets 10 % of the requests, {TONE} the others\n"
    assert server.last.json == {"version": 4, "percent": 10}
    assert run("adapters", "canary", "tone", "--end").stdout == f"{TONE} gets all requests\n"
    assert run("adapters", "promote", "tone").stdout == f"{TONE} is current\n"


def test_the_list_shows_what_is_pinned_and_what_is_tried_out(server: FakeServer, run: Run) -> None:
    running = {"pinned": True, "canary": {"version": 4, "percent": 10}}
    versions = (ADAPTER | running | {"version": 4, "current": False}, ADAPTER | running)
    server.script("GET", "/v1/adapters/tone/versions?limit=1000", Reply.of(listing(*versions)))
    shown = run("adapters", "versions", "tone").stdout
    assert "canary 10 %" in shown
    assert "current, pinned" in shown
