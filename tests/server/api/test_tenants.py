"""/v1/tenants and /v1/audit: what administrators can do, and that nobody else can."""

import time
from typing import Any

import pytest

from harness.server.api_rig import OTHER_TENANT, TENANT, ApiRig
from headmix_server.tenancy.keys.principal import Scope
from tests.server.api.test_openapi import document

URL = "/v1/tenants"


async def new_key(rig: ApiRig, tenant: str = "acme", scopes: tuple[str, ...] = ("inference",), **more: Any) -> Any:
    return await rig.client.post(f"{URL}/{tenant}/keys", json={"scopes": list(scopes), **more})


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_a_tenant_made_by_an_administrator_gets_a_key_that_opens_only_what_its_scopes_say(rig: ApiRig) -> None:
    made = await rig.client.post(URL, json={"name": "acme"})
    assert (made.status_code, made.json()["name"], made.json()["keys"]) == (201, "acme", 0)
    assert (await rig.client.post(URL, json={"name": "acme"})).status_code == 200
    response = await new_key(rig, name="ci")
    key = response.json()
    assert response.status_code == 201
    assert key["key"].startswith(key["prefix"])
    assert (key["tenant"], key["scopes"], key["name"], key["expires"]) == ("acme", ["inference"], "ci", None)
    assert (await rig.client.get("/v1/adapters", headers=bearer(key["key"]))).json()["data"] == []
    upload = await rig.client.post("/v1/adapters", headers=bearer(key["key"]), files={"file": b"x"})
    assert (upload.status_code, upload.json()["error"]["code"]) == (403, "forbidden")


async def test_a_keys_text_is_shown_once(rig: ApiRig) -> None:
    await rig.client.post(URL, json={"name": "acme"})
    text = (await new_key(rig)).json()["key"]
    for path in (f"{URL}/acme/keys", URL, f"{URL}/acme", "/v1/audit"):
        assert text not in (await rig.client.get(path)).text
    (listed,) = (await rig.client.get(f"{URL}/acme/keys")).json()["data"]
    assert listed.keys() & {"key", "hash"} == set()


async def test_a_revoked_key_is_refused_from_its_next_request_on(rig: ApiRig) -> None:
    await rig.client.post(URL, json={"name": "acme"})
    key = (await new_key(rig)).json()
    assert (await rig.client.get("/v1/models", headers=bearer(key["key"]))).status_code == 200
    revoked = await rig.client.delete(f"{URL}/acme/keys/{key['id']}")
    assert revoked.status_code == 200
    assert revoked.json()["revoked"] is not None
    refused = await rig.client.get("/v1/models", headers=bearer(key["key"]))
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    again = await rig.client.delete(f"{URL}/acme/keys/{key['id']}")
    assert (again.status_code, again.json()["error"]["code"]) == (404, "not_found")


async def test_a_rotated_key_gives_way_at_once_or_after_its_grace(rig: ApiRig) -> None:
    await rig.client.post(URL, json={"name": "acme"})
    for grace, old_status in ((None, 401), ({"grace_seconds": 600}, 200)):
        old = (await new_key(rig)).json()
        rotated = await rig.client.post(f"{URL}/acme/keys/{old['id']}/rotate", json=grace)
        assert rotated.status_code == 201
        assert (await rig.client.get("/v1/models", headers=bearer(rotated.json()["key"]))).status_code == 200
        assert (await rig.client.get("/v1/models", headers=bearer(old["key"]))).status_code == old_status


async def test_an_expiry_and_the_last_use_are_reported(rig: ApiRig) -> None:
    await rig.client.post(URL, json={"name": "acme"})
    expires = int(time.time()) + 600
    key = (await new_key(rig, expires=expires)).json()
    assert (key["expires"], key["last_used"]) == (expires, None)
    await rig.client.get("/v1/models", headers=bearer(key["key"]))
    (listed,) = (await rig.client.get(f"{URL}/acme/keys")).json()["data"]
    assert listed["last_used"] >= key["created"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "scopes"),
        ({"scopes": ["inference"], "expires": 1}, "expires"),
        ({"scopes": ["inference"], "colour": "red"}, "colour"),
        ({"scopes": ["inference"], "name": "ci\x1b[2J"}, "name"),
        ({"scopes": ["inference"], "name": "ci\x00"}, "name"),
        ({"scopes": ["inference"], "name": "two\nlines"}, "name"),
    ],
)
async def test_an_invalid_key_request_is_refused_with_its_parameter(rig: ApiRig, body: Any, param: str) -> None:
    await rig.client.post(URL, json={"name": "acme"})
    response = await rig.client.post(f"{URL}/acme/keys", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_keys_of_an_unknown_tenant_are_neither_created_nor_listed(rig: ApiRig) -> None:
    for response in (await new_key(rig, "nobody"), await rig.client.get(f"{URL}/nobody/keys")):
        assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
    assert "nobody" not in (await rig.client.get(URL)).text


def administrators_routes() -> list[tuple[str, str]]:
    paths = document()["paths"].items()
    return [(method.upper(), path) for path, found in paths if path.startswith(URL) for method in found]


@pytest.mark.parametrize("scope", [Scope.INFERENCE, Scope.ADAPTERS, Scope.METRICS])
async def test_only_an_administrator_gets_in(rig: ApiRig, scope: Scope) -> None:
    headers = rig.key(scope)
    for method, path in (
        ("GET", URL),
        ("POST", URL),
        ("GET", f"{URL}/{TENANT}"),
        ("GET", f"{URL}/{TENANT}/keys"),
        ("POST", f"{URL}/{TENANT}/keys"),
        ("POST", f"{URL}/{TENANT}/keys/key_1/rotate"),
        ("DELETE", f"{URL}/{TENANT}/keys/key_1"),
        ("GET", "/v1/audit"),
        *(
            (method.upper(), path)
            for path, found in document()["paths"].items()
            if path.startswith(URL)
            for method in found
        ),
    ):
        path = path.replace("{tenant}", TENANT).replace("{name}", "tone").replace("{version}", "1")

        response = await rig.client.request(method, path, headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden"), path


async def test_the_audit_names_the_key_that_made_each_change(rig: ApiRig) -> None:
    await rig.client.post(URL, json={"name": "acme"})
    key = (await new_key(rig)).json()
    await rig.client.delete(f"{URL}/acme/keys/{key['id']}")
    entries = (await rig.client.get("/v1/audit", params={"tenant": "acme"})).json()["data"]
    assert [entry["action"] for entry in entries] == ["key.revoke", "key.create", "tenant.create"]
    (admin,) = {entry["actor"] for entry in entries}
    mine = (await rig.client.get(f"{URL}/{TENANT}/keys")).json()["data"]
    assert admin in {info["id"] for info in mine}
    page = (
        await rig.client.get("/v1/audit", params={"tenant": "acme", "limit": 1, "before": entries[0]["number"]})
    ).json()
    assert page["data"] == [entries[1]]
    assert OTHER_TENANT not in {entry["tenant"] for entry in entries}
