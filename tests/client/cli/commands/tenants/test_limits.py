"""`headmix tenants limits` and `headmix usage`."""

import json

import pytest

from tests.client.cli.conftest import Run
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import LIMITS, USAGE_LINE, listing

URL = "/v1/tenants/acme/limits"
USAGE = "/v1/usage?group_by=tenant%2Cday%2Cmodel"


def test_limits_are_shown_with_what_was_set_for_the_tenant(server: FakeServer, run: Run) -> None:
    server.script("GET", URL, Reply.of(LIMITS))
    shown = run("tenants", "limits", "acme").stdout
    assert ["requests_per_minute", "60", "60"] in [line.split() for line in shown.splitlines()]
    assert ["adapters", "100", "-"] in [line.split() for line in shown.splitlines()]
    assert json.loads(run("tenants", "limits", "acme", "--json").stdout)["own"]["weight"] == 2.0


def test_the_limits_given_are_set_and_no_others(server: FakeServer, run: Run) -> None:
    server.script("PATCH", URL, Reply.of(LIMITS))
    options = ("--requests-per-minute", "60", "--stored-bytes", "0", "--adapters", "default", "--weight", "2.5")
    assert run("tenants", "limits", "acme", *options).exit_code == 0
    assert server.last.json == {"requests_per_minute": 60, "stored_bytes": 0, "adapters": None, "weight": 2.5}


@pytest.mark.parametrize("options", [("--adapters", "many"), ("--adapters", "-1"), ("--weight", "heavy")])
def test_an_invalid_limit_is_wrong_usage(server: FakeServer, run: Run, options: tuple[str, str]) -> None:
    assert run("tenants", "limits", "acme", *options).exit_code == 2
    assert server.received == []


def test_usage_is_a_table_json_or_csv(server: FakeServer, run: Run) -> None:
    server.script("GET", USAGE, Reply.of(listing(USAGE_LINE)))
    server.script("GET", f"{USAGE}&format=csv", Reply(200, b"tenant,day\r\nacme,2026-11-24\r\n"))
    assert "2026-11-24" in run("usage").stdout
    assert json.loads(run("usage", "--json").stdout)[0]["requests"] == 3
    assert run("usage", "--csv").stdout == "tenant,day\nacme,2026-11-24\n"


def test_usage_is_of_the_days_tenant_and_groups_asked_for(server: FakeServer, run: Run) -> None:
    path = "/v1/usage?group_by=model&from=2026-11-01&to=2026-11-30&tenant=acme"
    server.script("GET", path, Reply.of(listing(USAGE_LINE | {"tenant": None, "day": None})))
    options = ("--from", "2026-11-01", "--to", "2026-11-30", "--tenant", "acme", "--group-by", "model")
    done = run("usage", *options)
    assert done.exit_code == 0
    assert "tenant" not in done.stdout
    assert run("usage", "--from", "yesterday").exit_code == 2


def test_stored_bytes_are_shown_with_their_limit(server: FakeServer, run: Run) -> None:
    storage = {"tenant": "acme", "stored_bytes": 12, "held_by_jobs": 5, "limit": 20}
    server.script("GET", "/v1/usage?group_by=&tenant=acme", Reply.of(listing(USAGE_LINE) | {"storage": storage}))
    shown = run("usage", "--storage", "--tenant", "acme").stdout
    assert [line.split() for line in shown.splitlines() if "acme" in line] == [["acme", "12", "5", "20"]]
    assert json.loads(run("usage", "--storage", "--tenant", "acme", "--json").stdout) == storage
