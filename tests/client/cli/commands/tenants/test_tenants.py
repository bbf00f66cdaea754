"""`headmix tenants` and `headmix keys`."""

import json
import time

import pytest

from tests.client.cli.conftest import Run
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import AUDIT_ENTRY, KEY, NEW_KEY, TENANT, listing

KEYS = "/v1/tenants/acme/keys"


def test_tenants_are_made_and_listed(server: FakeServer, run: Run) -> None:
    server.script("POST", "/v1/tenants", Reply.of(TENANT, 201))
    server.script("GET", "/v1/tenants", Reply.of(listing(TENANT)))
    assert run("tenants", "create", "acme").stdout == "acme\n"
    assert server.received[-1].json == {"name": "acme"}
    assert "acme" in run("tenants", "list").stdout
    assert json.loads(run("tenants", "list", "--json").stdout)[0]["keys"] == 1


def test_a_new_keys_text_alone_goes_to_stdout(server: FakeServer, run: Run) -> None:
    server.script("POST", KEYS, Reply.of(NEW_KEY, 201))
    before = int(time.time())
    done = run("keys", "create", "acme", "--scope", "inference", "--scope", "adapters", "--expires-in", "90d")
    assert (done.exit_code, done.stdout) == (0, f"{NEW_KEY['key']}\n")
    assert "not shown again" in done.stderr
    sent = server.received[-1].json
    assert isinstance(sent, dict)
    assert sent["scopes"] == ["inference", "adapters"]
    assert before + 90 * 86400 <= sent["expires"] <= time.time() + 90 * 86400


def test_a_key_is_rotated_with_a_grace_and_revoked(server: FakeServer, run: Run) -> None:
    server.script("POST", f"{KEYS}/{KEY['id']}/rotate", Reply.of(NEW_KEY, 201))
    server.script("DELETE", f"{KEYS}/{KEY['id']}", Reply.of(KEY))
    assert run("keys", "rotate", "acme", str(KEY["id"]), "--grace", "24h").stdout == f"{NEW_KEY['key']}\n"
    assert server.received[-1].json == {"grace_seconds": 86400}
    assert run("keys", "revoke", "acme", str(KEY["id"])).stdout == f"revoked {KEY['id']}\n"


def test_keys_are_listed_without_their_text(server: FakeServer, run: Run) -> None:
    server.script("GET", KEYS, Reply.of(listing(KEY)))
    assert "hm_abcdefgh" in run("keys", "list", "acme").stdout
    assert json.loads(run("keys", "list", "acme", "--json").stdout)[0]["scopes"] == ["adapters", "inference"]


def test_the_audit_is_a_table_or_json(server: FakeServer, run: Run) -> None:
    server.script("GET", "/v1/audit?limit=5&tenant=acme&before=9", Reply.of(listing(AUDIT_ENTRY)))
    options = ("--tenant", "acme", "--limit", "5", "--before", "9")
    assert "key.create" in run("tenants", "audit", *options).stdout
    assert json.loads(run("tenants", "audit", *options, "--json").stdout)[0]["actor"] == "key_root"


@pytest.mark.parametrize("span", ["90", "d", "0d", "-1d", "1w", "1.5h"])
def test_an_invalid_duration_is_wrong_usage(server: FakeServer, run: Run, span: str) -> None:
    assert run("keys", "create", "acme", "--scope", "inference", "--expires-in", span).exit_code == 2
    assert server.received == []
