"""GET /v1/usage."""

import asyncio
import csv
import io
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harness.server.api_rig import BASE, OTHER_TENANT, TENANT, ApiRig
from headmix_server.api.schemas.usage import UsageObject, usage_csv
from headmix_server.core.errors import InsufficientStorage
from headmix_server.core.messages import Abort, Generate, TokenOutput
from headmix_server.files.stored_file import Purpose
from headmix_server.tenancy.keys.principal import Scope

URL = "/v1/usage"


async def usage(rig: ApiRig, headers: Mapping[str, str] | None = None, /, **params: str) -> list[dict[str, Any]]:
    rig.state.usage.flush()
    response = await rig.client.get(URL, params=params, headers=headers)
    assert response.status_code == 200, response.text
    data: list[dict[str, Any]] = response.json()["data"]
    return data


async def test_usage_is_reported_by_tenant_day_and_model(rig: ApiRig) -> None:
    rig.says("The fox")
    rig.publish("tone", labels=("a", "b"))
    rig.engine.probs = [0.5, 0.5]
    completion = await rig.client.post("/v1/completions", json={"model": BASE, "prompt": "Hello", "n": 2})
    stream = await rig.client.post("/v1/completions", json={"model": BASE, "prompt": "Hello", "stream": True})
    classified = await rig.client.post("/v1/classify", json={"model": "tone", "input": ["a", "b c"]})
    await rig.other.post("/v1/completions", json={"model": BASE, "prompt": "Hello"})
    assert stream.status_code == 200
    used = completion.json()["usage"]
    cached = used["prompt_tokens_details"]["cached_tokens"]
    other, base, tone = await usage(rig)
    today = datetime.now(UTC).date()
    assert (base["tenant"], base["model"], base["requests"]) == (TENANT, BASE, 2)
    assert base["day"] in (str(today), str(today - timedelta(days=1)))
    assert base["prompt_tokens"] == 2 * used["prompt_tokens"]
    assert base["cached_tokens"] == 2 * cached > 0
    assert base["generation_tokens"] == used["completion_tokens"] * 3 // 2
    assert (tone["model"], tone["requests"], tone["generation_tokens"]) == ("tone", 1, 0)
    assert tone["prompt_tokens"] == classified.json()["usage"]["prompt_tokens"]
    assert other["tenant"] == OTHER_TENANT


async def test_a_key_sees_its_own_tenant_and_an_administrators_every_one(rig: ApiRig) -> None:
    rig.says("x")
    for client in (rig.client, rig.other):
        await client.post("/v1/completions", json={"model": BASE, "prompt": "Hello"})
    for scope in (Scope.INFERENCE, Scope.ADAPTERS, Scope.METRICS):
        headers = rig.key(scope)
        assert {line["tenant"] for line in await usage(rig, headers)} == {TENANT}
        assert {line["tenant"] for line in await usage(rig, headers, tenant=TENANT)} == {TENANT}
        for tenant in (OTHER_TENANT, "nobody"):
            refused = await rig.client.get(URL, params={"tenant": tenant}, headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    assert {line["tenant"] for line in await usage(rig)} == {TENANT, OTHER_TENANT}
    assert {line["tenant"] for line in await usage(rig, tenant=OTHER_TENANT)} == {OTHER_TENANT}


async def test_a_tenant_sees_what_it_stores_and_how_much_it_may(rig: ApiRig) -> None:
    first = rig.publish("tone", b"12345")
    rig.publish("copy", b"12345")
    rig.publish("theirs", b"123", tenant=OTHER_TENANT)
    file = rig.state.files.put(TENANT, Purpose.BATCH, "in.jsonl", [b"1234567"])
    rig.state.limits.change(TENANT, {"stored_bytes": 20}, actor="test")

    async def storage(headers: Mapping[str, str], **params: str) -> Any:
        return (await rig.client.get(URL, params=params, headers=headers)).json()["storage"]

    reader = rig.key(Scope.INFERENCE)
    own = {"tenant": TENANT, "stored_bytes": first.size_bytes + file.size_bytes, "held_by_jobs": 0, "limit": 20}
    assert own["stored_bytes"] == 12
    assert await storage(reader) == await storage(reader, tenant=TENANT) == await storage(rig.key()) == own
    theirs = {"tenant": OTHER_TENANT, "stored_bytes": 3, "held_by_jobs": 0, "limit": 0}
    assert await storage(rig.key(), tenant=OTHER_TENANT) == theirs
    refused = await rig.client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("b.jsonl", b"123456789")})
    assert refused.status_code == 429
    assert "may store 20 bytes: it stores 12" in refused.json()["error"]["message"]
    body = {"input_file_id": file.id, "endpoint": "/v1/completions", "completion_window": "24h"}
    assert (await rig.client.post("/v1/batches", json=body)).status_code == 200
    assert await storage(reader) == own  # the batch has nothing that the tenant does not pay for already
    assert (await rig.client.delete(f"/v1/files/{file.id}")).json()["held_by_jobs"] == file.size_bytes
    assert await storage(reader) == {**own, "held_by_jobs": file.size_bytes}


async def test_tokens_of_a_request_that_was_left_count_and_those_of_one_never_served_do_not(rig: ApiRig) -> None:
    rig.engine.answering = False
    body = {"model": BASE, "prompt": [5, 6, 7], "max_tokens": 50, "stream": True}
    left = asyncio.create_task(rig.client.post("/v1/completions", json=body))
    (message,) = await rig.engine.expect(Generate)
    await rig.engine.send(TokenOutput(request_id=message.request_id, tokens=[5, 6]))
    while not rig.state.metrics.time_to_first_token._sum.get():  # noqa: ASYNC110 - the server signals nothing
        await asyncio.sleep(0.005)
    left.cancel()
    await rig.engine.expect(Abort)
    lost = asyncio.create_task(rig.client.post("/v1/completions", json=body | {"stream": False}))
    await rig.engine.expect(Generate, 2)
    rig.state.engine.detach("it died")
    assert (await lost).status_code == 503
    (line,) = await usage(rig)
    assert (line["requests"], line["prompt_tokens"], line["generation_tokens"]) == (1, 3, 2)


async def test_refused_requests_are_not_usage(rig: ApiRig) -> None:
    await rig.client.post("/v1/completions", json={"model": "none", "prompt": "Hello"})
    await rig.client.post("/v1/completions", json={"model": BASE, "prompt": "Hello", "max_tokens": 10_000})
    assert await usage(rig) == []


async def test_groups_and_days_select(rig: ApiRig) -> None:
    rig.says("x")
    await rig.client.post("/v1/completions", json={"model": BASE, "prompt": "Hello"})
    (total,) = await usage(rig, group_by="")
    assert (total["tenant"], total["day"], total["model"], total["requests"]) == (None, None, None, 1)
    (by_model,) = await usage(rig, group_by="model")
    assert (by_model["tenant"], by_model["model"]) == (None, BASE)
    assert await usage(rig, None, **{"from": "2020-01-01", "to": "2020-01-31"}) == []
    response = (await rig.client.get(URL, params={"to": "0001-01-02"})).json()
    assert (response["first"], response["last"]) == ("0001-01-01", "0001-01-02")


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-01-02", "to": "2026-01-01"}, "from"),
        ({"group_by": "colour"}, "group_by"),
        ({"format": "xml"}, "format"),
    ],
)
async def test_an_invalid_query_is_refused_with_its_parameter(rig: ApiRig, params: dict[str, str], param: str) -> None:
    response = await rig.client.get(URL, params=params)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("asked", [{"params": {"format": "csv"}}, {"headers": {"Accept": "text/csv"}}])
async def test_csv_has_a_line_of_names_and_one_for_each_sum(rig: ApiRig, asked: dict[str, Any]) -> None:
    rig.says("x")
    await rig.client.post("/v1/completions", json={"model": BASE, "prompt": "Hello"})
    (line,) = await usage(rig)
    response = await rig.client.get(URL, **asked)
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    (row,) = csv.DictReader(io.StringIO(response.text, newline=""))
    assert row == {name: str(value) for name, value in line.items() if name != "object"}


def test_no_cell_of_the_csv_is_read_as_a_formula() -> None:
    line = UsageObject(
        tenant="acme",
        day=None,
        model='=cmd"|x,y',
        requests=1,
        prompt_tokens=2,
        cached_tokens=0,
        generation_tokens=3,
        trained_tokens=4,
    )
    (row,) = csv.DictReader(io.StringIO(usage_csv([line]), newline=""))
    assert (row["model"], row["tenant"], row["day"]) == ("'=cmd\"|x,y", "acme", "")


async def test_a_report_omits_what_cannot_be_written_now(rig: ApiRig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise InsufficientStorage("full")

    monkeypatch.setattr(rig.state.usage, "flush", full)
    assert (await rig.client.get(URL)).status_code == 200
