"""Another tenant's adapter and a nonexistent one get the same response by the same work, on every route with a name.

The routes come from the OpenAPI document, so new ones are covered too. Admin routes are left out: administrators may
see everything, and nobody else gets past the scope.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import event

from harness.server.api_rig import ApiRig
from headmix_server.core.types import Residency
from tests.server.api.test_openapi import document

THEIRS, NOBODYS = "theirs", "nobody"
assert len(THEIRS) == len(NOBODYS)

BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "x"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}]},
    "/v1/classify": {"input": "x"},
    "/v1/embeddings": {"input": "x"},
    "/v1/moderations": {"input": "x"},
    "/v1/rerank": {"query": "x", "documents": ["y"]},
    "/v1/responses": {"input": "x"},
    "/v1/score": {"text_1": "x", "text_2": "y"},
    "/tokenize": {"prompt": "x"},
    "/detokenize": {"tokens": [1]},
    "/v1/fine_tuning/jobs": {"training_file": "x"},
    "/v1/adapters/{name}/sharing": {"everyone": True},
    "/v1/adapters/{name}/canary": {"version": 1, "percent": 5},
}
"""Bodies for routes that require one; the model is added if the path does not name it."""


@dataclass(frozen=True)
class Route:
    """One operation that takes an adapter's name: in its path, or as `model` in its body."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def in_path(self) -> bool:
        return "{" in self.path

    def asked(self, name: str, owner: str | None) -> dict[str, Any]:
        """Return the request for an adapter with this name, of this owner if one is given."""
        model = name if owner is None else f"{owner}/{name}"
        path = self.path.replace("{name}", name).replace("{version}", "1").replace("{model}", model)
        body = BODIES.get(self.path)
        if not self.in_path:
            body = {**(body or {}), "model": model}
        query = {"owner": owner} if owner is not None and "{name}" in self.path else {}
        json = body if self.method in ("POST", "PUT") else None
        return {"method": self.method, "url": path, "params": query, "json": json}


def routes() -> list[Route]:
    found = []
    paths = {path: found for path, found in document()["paths"].items() if not path.startswith("/v1/tenants/")}
    for path, operations in paths.items():
        for method, operation in operations.items():
            schema = str(operation.get("requestBody", ""))
            named = "{name}" in path or "{model}" in path
            if named or (path in BODIES and "application/json" in schema):
                found.append(Route(method.upper(), path))
    return found


ROUTES = routes()


def test_every_route_that_takes_a_model_is_among_them() -> None:
    schemas = document()["components"]["schemas"]
    asking = {name for name, schema in schemas.items() if name.endswith("Request") and "model" in schema["properties"]}
    assert len(asking) == len([route for route in ROUTES if not route.in_path]) == 11
    assert len({route.path for route in ROUTES if route.in_path}) >= 10


@contextmanager
def statements(rig: ApiRig) -> Iterator[list[str]]:
    """Record every SQL statement that the database receives."""
    engine = rig.state.library.catalog._engine
    noted: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        noted.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield noted
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def ask(rig: ApiRig, route: Route, name: str, owner: str | None) -> tuple[object, ...]:
    """Return everything visible in a response, with the requested name removed, and the work it took."""
    await rig.state.pinning.drain()  # reconciling pins is not the request's work
    with statements(rig) as noted:
        response = await rig.client.request(**route.asked(name, owner), headers={"x-request-id": "same"})
    headers = {key: value for key, value in response.headers.items() if key != "date"}
    return response.status_code, response.text.replace(name, "NAME"), headers, noted


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("owner", [None, "other"])
@pytest.mark.parametrize("route", ROUTES, ids=str)
async def test_another_tenants_adapter_is_answered_exactly_like_none(
    rig: ApiRig, route: Route, owner: str | None, resident: bool
) -> None:
    version = rig.publish(THEIRS, tenant="other")
    rig.state.engine.resident = {("other", version.digest): Residency.DEVICE} if resident else {}
    await ask(rig, route, "first", owner)  # a tenant's limits are read with its first request
    theirs, nobodys = await ask(rig, route, THEIRS, owner), await ask(rig, route, NOBODYS, owner)
    assert theirs == nobodys
    status, text, _, noted = theirs
    assert status == 404
    assert '"code":"model_not_found"' in str(text)
    assert noted, "the name was not looked up"
    assert rig.engine.received == []
    assert (await rig.other.get(f"/v1/adapters/{THEIRS}")).json()["current"]


@pytest.mark.parametrize("route", [route for route in ROUTES if "{name}" in route.path], ids=str)
async def test_an_owner_in_the_query_never_leads_to_an_adapter_of_ones_own(rig: ApiRig, route: Route) -> None:
    rig.publish(THEIRS)
    rig.publish(THEIRS, tenant="other")
    response = await rig.client.request(**route.asked(THEIRS, "other"))
    assert response.status_code == 404
    mine = (await rig.client.get(f"/v1/adapters/{THEIRS}")).json()
    assert (mine["owner"], mine["version"], mine["state"], mine["pinned"]) == ("tenant", 1, "ready", False)


async def test_lists_hold_nothing_that_is_not_shared(rig: ApiRig) -> None:
    rig.publish(THEIRS, tenant="other")
    for path in ("/v1/models", "/v1/adapters"):
        assert THEIRS not in (await rig.client.get(path)).text


async def test_unsharing_while_it_is_asked_for_leaves_no_third_answer(rig: ApiRig) -> None:
    rig.publish("tone", tenant="other")
    url, sharing = "/v1/models/other/tone", "/v1/adapters/tone/sharing"

    async def turn() -> None:
        for _ in range(10):
            await rig.other.put(sharing, json={"everyone": True})
            await rig.other.delete(sharing)

    turning = asyncio.create_task(turn())
    seen = set()
    while not turning.done():
        seen.add((await rig.client.get(url)).status_code)
    await turning
    assert seen <= {200, 404}
    assert (await rig.client.get(url)).status_code == 404
