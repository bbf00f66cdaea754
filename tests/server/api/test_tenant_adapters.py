"""Administrators can list, unshare and remove any tenant's adapters; every change is in the tenant's audit log."""

from typing import Any

import pytest

from harness.server.api_rig import OTHER_TENANT, ApiRig
from headmix_server.catalog.version import VersionState
from headmix_server.core.types import Residency
from headmix_server.tenancy.keys.principal import Scope

URL = f"/v1/tenants/{OTHER_TENANT}/adapters"


@pytest.fixture
async def admin(rig: ApiRig) -> dict[str, str]:
    """A key with only the scope `admin`."""
    return rig.key(Scope.ADMIN)


async def actions(rig: ApiRig) -> list[tuple[str, str]]:
    entries = (await rig.client.get("/v1/audit", params={"tenant": OTHER_TENANT})).json()["data"]
    return [(entry["action"], entry["subject"]) for entry in entries]


async def completed(rig: ApiRig, model: str, **more: Any) -> int:
    body = {"model": model, "prompt": "x", "max_tokens": 1}
    return (await rig.other.post("/v1/completions", json=body, **more)).status_code


async def test_what_another_tenant_has_is_listed_as_its_owner_sees_it(rig: ApiRig, admin: dict[str, str]) -> None:
    for name in ("a", "b"):
        rig.publish(name, tenant=OTHER_TENANT)
    rig.publish("mine")
    listed = (await rig.client.get(URL, headers=admin, params={"limit": 1})).json()
    assert ([one["name"] for one in listed["data"]], listed["has_more"]) == (["a"], True)
    listed = (await rig.client.get(URL, headers=admin, params={"after": "a"})).json()
    assert ([(one["name"], one["owner"]) for one in listed["data"]], listed["has_more"]) == ([("b", "other")], False)
    versions = (await rig.client.get(f"{URL}/a/versions", headers=admin)).json()
    assert [one["version"] for one in versions["data"]] == [1]
    missing = await rig.client.get("/v1/tenants/nobody/adapters", headers=admin)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


async def test_an_administrator_can_unshare_an_adapter(rig: ApiRig, admin: dict[str, str]) -> None:
    rig.publish("loud", tenant=OTHER_TENANT)
    await rig.other.put("/v1/adapters/loud/sharing", json={"everyone": True})
    assert [one["name"] for one in (await rig.client.get("/v1/adapters")).json()["data"]] == ["other/loud"]
    mine = {entry["id"] for entry in (await rig.client.get("/v1/tenants/tenant/keys")).json()["data"]}
    response = await rig.client.delete(f"{URL}/loud/sharing", headers=admin)
    assert (response.status_code, response.json()["everyone"], response.json()["tenants"]) == (200, False, [])
    assert (await rig.client.get("/v1/adapters")).json()["data"] == []
    (newest, *_) = (await rig.client.get("/v1/audit", params={"tenant": OTHER_TENANT})).json()["data"]
    assert (newest["action"], newest["subject"], newest["actor"] in mine) == ("adapter.unshare", "loud", True)


async def test_an_administrator_can_delete_an_adapter_with_its_bytes(rig: ApiRig, admin: dict[str, str]) -> None:
    version = rig.publish("bad", tenant=OTHER_TENANT)
    response = await rig.client.delete(f"{URL}/bad", headers=admin)
    assert (response.status_code, response.json()["versions"]) == (200, [1])
    assert await completed(rig, "bad") == 404
    assert not rig.state.library.path(version).exists()
    assert ("adapter.delete", "bad") in await actions(rig)


async def test_versions_are_retired_and_deleted_and_the_current_one_is_retired_too(
    rig: ApiRig, admin: dict[str, str]
) -> None:
    for content in (b"1", b"2", b"3"):
        rig.publish("bad", content, tenant=OTHER_TENANT)
    assert (await rig.client.delete(f"{URL}/bad/versions/1", headers=admin)).json()["versions"] == [1]
    assert (await rig.client.post(f"{URL}/bad/versions/2/retire", headers=admin)).json()["state"] == "retired"
    await rig.other.post("/v1/adapters/bad/pin")
    retired = (await rig.client.post(f"{URL}/bad/versions/3/retire", headers=admin)).json()
    assert (retired["state"], retired["current"], retired["pinned"]) == ("retired", True, False)
    assert [await completed(rig, model) for model in ("bad", "bad@2", "bad@3")] == [404] * 3
    assert [action for action, _ in (await actions(rig))[:2]] == ["version.retired", "adapter.unpin"]
    assert [one["id"] for one in (await rig.other.get("/v1/models")).json()["data"]] == ["tiny-base"]
    assert (await rig.other.get("/v1/adapters")).json()["data"][0]["state"] == "retired"
    current = await rig.client.delete(f"{URL}/bad/versions/3", headers=admin)
    assert (current.status_code, current.json()["error"]["param"]) == (400, "version")
    assert rig.state.library.catalog.set_state(OTHER_TENANT, "bad", 3, VersionState.READY).state == "ready"
    assert await completed(rig, "bad") == 200


async def test_a_retired_current_version_cannot_be_used_even_if_it_is_shared(
    rig: ApiRig, admin: dict[str, str]
) -> None:
    rig.publish("bad", tenant=OTHER_TENANT)
    await rig.other.put("/v1/adapters/bad/sharing", json={"everyone": True})
    await rig.client.post(f"{URL}/bad/versions/1/retire", headers=admin)
    assert (await rig.client.get("/v1/adapters")).json()["data"] == []
    assert (await rig.client.get("/v1/adapters/bad", params={"owner": OTHER_TENANT})).status_code == 404
    rig.publish("bad", b"better", tenant=OTHER_TENANT)
    assert [one["name"] for one in (await rig.client.get("/v1/adapters")).json()["data"]] == ["other/bad"]


async def test_an_administrator_can_unpin_an_adapter(rig: ApiRig, admin: dict[str, str]) -> None:
    version = rig.publish("big", tenant=OTHER_TENANT)
    await rig.other.post("/v1/adapters/big/pin")
    assert (await rig.client.delete(f"{URL}/big/pin", headers=admin)).json()["pinned"] is False
    await rig.state.pinning.drain()
    assert rig.state.library.catalog.pins.current() == ()
    rig.state.engine.resident = {(OTHER_TENANT, version.digest): Residency.DEVICE}
    assert ("adapter.unpin", "big") in await actions(rig)


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_a_missing_adapter_is_a_404(rig: ApiRig, admin: dict[str, str], method: str) -> None:
    path = {"GET": "/no/versions", "DELETE": "/no", "POST": "/no/versions/1/retire"}[method]
    response = await rig.client.request(method, URL + path, headers=admin)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
