"""Other tenants' adapters over HTTP: named with their owner, usable, and changed only by the owner."""

import asyncio
from typing import Any

import pytest

from harness.server.api_rig import BASE, OTHER_TENANT, TENANT, ApiRig
from headmix_server.core.messages import Generate, LoadAdapter
from headmix_server.tenancy.keys.principal import Scope
from tests.server.api.test_indistinguishable import ROUTES, Route

SHARING = "/v1/adapters/tone/sharing"
READING = {"GET /v1/adapters/{name}", "GET /v1/adapters/{name}/versions", "GET /v1/adapters/{name}/file"}
USING = {"POST /v1/adapters/{name}/load"}


async def share(rig: ApiRig, **body: Any) -> Any:
    return await rig.client.put(SHARING, json=body or {"tenants": [OTHER_TENANT]})


async def test_a_tenant_it_is_shared_with_uses_an_adapter_by_its_owners_name(rig: ApiRig) -> None:
    version = rig.publish("tone")
    assert (await share(rig)).json() == {
        "object": "adapter.sharing",
        "name": "tone",
        "everyone": False,
        "tenants": [OTHER_TENANT],
    }
    rig.says("Hi")
    for model in ("tenant/tone", "tenant/tone@1"):
        response = await rig.other.post("/v1/completions", json={"model": model, "prompt": "x"})
        assert response.status_code == 200
        assert response.headers["x-headmix-adapter"] == f"tenant/tone@1 {version.digest}"
        assert response.json()["model"] == model
    assert (await rig.other.post("/v1/completions", json={"model": "tone", "prompt": "x"})).status_code == 404


async def test_the_prefix_cache_and_the_metrics_count_for_who_asks_and_not_for_the_owner(rig: ApiRig) -> None:
    rig.publish("tone")
    await share(rig)
    await rig.other.post("/v1/completions", json={"model": "tenant/tone", "prompt": "x"})
    (message,) = rig.engine.of(Generate)
    assert message.adapter is not None
    assert message.tenant == message.adapter.tenant == OTHER_TENANT
    text = (await rig.client.get("/metrics")).text
    assert 'adapter="tenant/tone",outcome="ok",route="/v1/completions",tenant="other"' in text
    assert 'adapter="tone",outcome="ok",route="/v1/completions"' not in text


async def test_a_shared_adapter_is_listed_with_its_owner_after_the_tenants_own(rig: ApiRig) -> None:
    rig.publish("tone", labels=("a", "b"))
    rig.publish("zoo", tenant=OTHER_TENANT)
    await share(rig, everyone=True)
    adapters = (await rig.other.get("/v1/adapters")).json()["data"]
    assert [(adapter["name"], adapter["owner"]) for adapter in adapters] == [("zoo", "other"), ("tenant/tone", TENANT)]
    rest = (await rig.other.get("/v1/adapters", params={"after": "zoo", "limit": 1})).json()
    assert (rest["data"], rest["has_more"]) == (adapters[1:], False)
    models = (await rig.other.get("/v1/models")).json()["data"]
    assert [model["id"] for model in models] == [BASE, "zoo", "tenant/tone"]
    assert models[2]["owned_by"] == TENANT
    for model in ("tenant/tone", "tenant/tone@1"):
        assert (await rig.other.get(f"/v1/models/{model}")).json() == {**models[2], "id": model}


async def test_a_shared_adapter_can_be_read_and_loaded(rig: ApiRig) -> None:
    rig.publish("tone", b"bytes")
    await share(rig)
    owner = {"owner": TENANT}
    found = (await rig.other.get("/v1/adapters/tone", params=owner)).json()
    assert (found["name"], found["owner"]) == ("tenant/tone", TENANT)
    assert (await rig.other.get("/v1/adapters/tone@1", params=owner)).json() == found
    listed = {name: value for name, value in found.items() if name not in ("chat_template", "examples", "training")}
    assert (await rig.other.get("/v1/adapters/tone/versions", params=owner)).json()["data"] == [listed]
    file = await rig.other.get("/v1/adapters/tone/file", params=owner)
    assert file.content == b"bytes"
    assert file.headers["x-headmix-adapter"].startswith("tenant/tone@1 ")
    loaded = await rig.other.post("/v1/adapters/tone/load", params=owner)
    assert loaded.json()["resident"] == "device"
    assert [message.adapter.tenant for message in rig.engine.of(LoadAdapter)] == [OTHER_TENANT]


@pytest.mark.parametrize("route", [r for r in ROUTES if "{name}" in r.path and str(r) not in READING | USING], ids=str)
async def test_tenants_it_is_shared_with_cannot_change_it(rig: ApiRig, route: Route) -> None:
    rig.publish("tone", b"1")
    rig.publish("tone", b"2")
    rig.publish("tone", tenant=OTHER_TENANT)
    await share(rig)
    before = (await rig.client.get("/v1/adapters/tone/versions")).json()
    response = await rig.other.request(**route.asked("tone", TENANT))
    assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")
    assert (await rig.client.get("/v1/adapters/tone/versions")).json() == before
    assert (await rig.client.get(SHARING)).json()["tenants"] == [OTHER_TENANT]
    assert (await rig.other.get("/v1/adapters/tone")).json()["version"] == 1


async def test_an_upload_never_goes_to_another_tenants_name(rig: ApiRig) -> None:
    rig.publish("tone")
    await share(rig)
    response = await rig.other.post("/v1/adapters", data={"name": "tenant/tone"}, files={"file": b"x"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "name")


async def test_unsharing_and_deleting_take_effect_with_the_next_request(rig: ApiRig) -> None:
    for ending in (SHARING, "/v1/adapters/tone"):
        rig.publish("tone")
        await share(rig)
        assert (await rig.other.get("/v1/models/tenant/tone")).status_code == 200
        assert (await rig.client.delete(ending)).status_code == 200
        assert (await rig.other.get("/v1/models/tenant/tone")).status_code == 404
        assert len((await rig.other.get("/v1/models")).json()["data"]) == 1
    text = (await rig.client.get("/metrics")).text
    assert 'adapter="tenant/tone"' not in text


async def test_a_request_that_runs_when_its_adapter_is_unshared_goes_on_to_its_end(rig: ApiRig) -> None:
    rig.publish("tone")
    await share(rig)
    rig.engine.answering = False
    rig.says("Hi")
    body = {"model": "tenant/tone", "prompt": "x"}
    asking = asyncio.create_task(rig.other.post("/v1/completions", json=body))
    (message,) = await rig.engine.expect(Generate)
    await rig.client.delete(SHARING)
    await rig.engine.send(*rig.engine.answer(message))
    response = await asking
    assert response.json()["choices"][0]["text"] == "Hi"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, None),
        ({"everyone": False}, "everyone"),
        ({"everyone": True, "tenants": []}, None),
        ({"tenants": [TENANT]}, "tenants"),
        ({"tenants": ["No Name"]}, "tenants"),
        ({"tenants": "other"}, "tenants"),
        ({"tenants": ["a"] * 1001}, "tenants"),
        ({"with": ["other"]}, "with"),
    ],
)
async def test_a_malformed_request_is_refused_with_its_parameter(
    rig: ApiRig, body: dict[str, Any], param: str | None
) -> None:
    rig.publish("tone")
    response = await rig.client.put(SHARING, json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param), response.text
    assert (await rig.client.get(SHARING)).json()["tenants"] == []


async def test_sharing_does_not_reveal_whether_a_tenant_exists(rig: ApiRig) -> None:
    rig.publish("tone")
    known, unknown = await share(rig, tenants=[OTHER_TENANT]), await share(rig, tenants=["never"])
    assert known.status_code == unknown.status_code == 200
    assert known.text.replace(OTHER_TENANT, "never") == unknown.text


@pytest.mark.parametrize("scope", [Scope.INFERENCE, Scope.METRICS, Scope.ADMIN])
async def test_sharing_needs_the_scope_for_adapters(rig: ApiRig, scope: Scope) -> None:
    rig.publish("tone")
    for method in ("GET", "PUT", "DELETE"):
        response = await rig.client.request(method, SHARING, json={"everyone": True}, headers=rig.key(scope))
        assert response.status_code == 403


async def test_the_audit_names_who_shared(rig: ApiRig) -> None:
    rig.publish("tone")
    await share(rig)
    await rig.client.delete(SHARING)
    entries = (await rig.client.get("/v1/audit", params={"tenant": TENANT, "limit": 2})).json()["data"]
    assert [entry["action"] for entry in entries] == ["adapter.unshare", "adapter.share"]
    assert entries[0]["actor"].startswith("key_")
