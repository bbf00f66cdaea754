"""An unauthorized client is refused after its headers: no byte of its body is read."""

from dataclasses import dataclass
from typing import Any

import pytest

from harness.server.api_rig import BASE, TENANT, ApiRig
from headmix_server.api.app import create_app
from headmix_server.tenancy.keys.principal import Principal, Scope
from tests.server.api.test_database_away import NAMES
from tests.server.api.test_openapi import document


@dataclass(frozen=True)
class Guarded:
    """An operation that requires a key."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def guarded() -> list[Guarded]:
    return [
        Guarded(method.upper(), path)
        for path, operations in document()["paths"].items()
        for method, operation in operations.items()
        if operation.get("security") and path != "/metrics"
    ]


async def answer(rig: ApiRig, method: str, path: str, headers: dict[str, str]) -> tuple[int, int]:
    """Send a request whose body must not be read; return the status and how often it was read."""
    reads, status = 0, 0

    async def receive() -> dict[str, Any]:
        nonlocal reads
        reads += 1
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    sent = {"content-type": "application/json", "content-length": "1000000", **headers}
    await create_app(rig.state)(
        {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "http_version": "1.1",
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
            "state": {},
        },
        receive,
        send,
    )
    return status, reads


def test_every_route_of_the_api_asks_for_a_key() -> None:
    paths = {route.path for route in guarded()}
    assert paths == {path for path in document()["paths"] if path.startswith("/v1/")} | {"/tokenize", "/detokenize"}


@pytest.mark.parametrize("route", guarded(), ids=str)
async def test_without_a_valid_key_no_body_is_read(rig: ApiRig, route: Guarded) -> None:
    path = route.path.format(**NAMES)
    wrong = {"Authorization": f"Bearer hm_{'x' * 43}"}
    for headers in ({}, wrong, {"Authorization": "Basic eDp5"}):
        assert await answer(rig, route.method, path, headers) == (401, 0)


@pytest.mark.parametrize("route", guarded(), ids=str)
async def test_without_the_scope_no_body_is_read(rig: ApiRig, route: Guarded) -> None:
    status, reads = await answer(rig, route.method, route.path.format(**NAMES), rig.key(Scope.METRICS))
    assert status != 401
    assert reads == 0
    if route.method in ("POST", "PUT", "PATCH", "DELETE"):
        assert (status, reads) == (403, 0)


async def test_over_a_limit_of_its_tenant_no_body_is_read(rig: ApiRig) -> None:
    rig.state.limits.change(TENANT, {"requests_per_minute": 1}, actor="test")
    key = {"Authorization": f"Bearer {rig.keys[TENANT]}"}
    assert (await rig.client.post("/v1/completions", json={"model": BASE, "prompt": "x"})).status_code == 200
    for path in ("/v1/completions", "/v1/chat/completions", "/v1/classify", "/v1/embeddings"):
        assert await answer(rig, "POST", path, key) == (429, 0)


async def test_a_key_is_looked_up_once_for_each_request(rig: ApiRig, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []
    find = rig.state.keys.authenticate

    def authenticate(key: str) -> Principal:
        looked_up.append(key)
        return find(key)

    monkeypatch.setattr(rig.state.keys, "authenticate", authenticate)
    assert (await rig.client.post("/v1/completions", json={"model": BASE, "prompt": "x"})).status_code == 200
    assert len(looked_up) == 1


async def test_malformed_bodies_get_the_same_errors_as_before(rig: ApiRig) -> None:
    async def code(**body: Any) -> str:
        response = await rig.client.post("/v1/completions", **body)
        return f"{response.status_code} {response.json()['error']['message']}"

    json = {"content-type": "application/json"}
    assert (await code(content=b"", headers=json)).startswith("400 ")
    assert await code(content=b"{", headers=json) == await code(content=b"{ ", headers=json)
    assert (await code(content=b"{", headers=json)).startswith("400 The body is not valid JSON")
    assert (await code(content=b"x", headers={"content-type": "text/plain"})).startswith("400 The body must be a JSON")
    assert (await code(content=b"[]", headers=json)).startswith("400 The body must be a JSON object")
    assert (await code(content=b"[" * 100_000, headers=json)).startswith("400 ")
    assert (await code(content=b"\xff", headers=json)).startswith("400 ")
