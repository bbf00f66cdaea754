"""A version that was accepted for another base is refused everywhere, and everything else is served."""

from typing import Any

import pytest
from sqlalchemy import update

from harness.server.api_rig import OTHER_TENANT, ApiRig
from headmix_server.catalog.tables import ArtifactRow
from headmix_server.catalog.version import AdapterVersion
from headmix_server.core.messages import Classify, Embed, Generate, LoadAdapter
from headmix_server.database import writing

CHAT = {"messages": [{"role": "user", "content": "x"}]}
USES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "x"},
    "/v1/chat/completions": CHAT,
    "/v1/embeddings": {"input": "x"},
    "/v1/classify": {"input": "x"},
}


def make_foreign(rig: ApiRig, version: AdapterVersion) -> None:
    """Make it another base's, as a server with the wrong base may have left it in an older version's catalog."""
    with writing(rig.state.library.catalog._engine) as session:
        session.execute(update(ArtifactRow).where(ArtifactRow.digest == version.digest).values(base="other"))


def refusal(response: Any) -> tuple[int, str, str, str]:
    error = response.json()["error"]
    return response.status_code, error["code"], error["param"], error["message"]


def told(name: str) -> tuple[int, str, str, str]:
    message = f"{name} was accepted for another base than the one this server has; upload it again for this one."
    return 400, "invalid_request_error", "model", message


@pytest.mark.parametrize("route", USES)
async def test_it_never_reaches_the_engine(rig: ApiRig, route: str) -> None:
    labels = ("a", "b") if route == "/v1/classify" else ()
    version = rig.publish("tone", b"1", labels=labels)
    make_foreign(rig, version)
    for stream in (False, True) if "completions" in route else (False,):
        body = {"model": "tone"} | USES[route] | ({"stream": True} if stream else {})
        assert refusal(await rig.client.post(route, json=body)) == told("tone@1")
    assert refusal(await rig.client.post("/v1/adapters/tone/load")) == told("tone@1")
    assert not rig.engine.of(Generate) + rig.engine.of(Classify) + rig.engine.of(Embed) + rig.engine.of(LoadAdapter)


async def test_another_tenant_it_is_shared_with_is_refused_alike(rig: ApiRig) -> None:
    make_foreign(rig, rig.publish("tone", b"1"))
    await rig.client.put("/v1/adapters/tone/sharing", json={"tenants": [OTHER_TENANT]})
    response = await rig.other.post("/v1/completions", json={"model": "tenant/tone", "prompt": "x"})
    assert refusal(response) == told("tenant/tone@1")


async def test_its_neighbours_are_served_and_it_can_be_listed_and_deleted(rig: ApiRig) -> None:
    make_foreign(rig, rig.publish("tone", b"1"))
    rig.publish("tone", b"2")
    assert (await rig.client.post("/v1/completions", json={"model": "tone", "prompt": "x"})).status_code == 200
    back = await rig.client.post("/v1/adapters/tone/rollback")
    assert (back.status_code, back.json()["error"]["param"]) == (400, "version")
    listed = (await rig.client.get("/v1/adapters/tone/versions")).json()["data"]
    assert [(version["version"], version["current"]) for version in listed] == [(2, True), (1, False)]
    assert (await rig.client.delete("/v1/adapters/tone")).status_code == 200


async def test_a_pin_of_it_is_refused_and_one_that_was_made_before_does_not_bring_it_to_the_device(rig: ApiRig) -> None:
    version = rig.publish("tone", b"1")
    await rig.client.post("/v1/adapters/tone/pin")
    make_foreign(rig, version)
    rig.engine.received.clear()
    rig.state.pinning._on_ready()
    await rig.state.pinning.drain()
    assert rig.engine.of(LoadAdapter) == []
    assert (await rig.client.post("/v1/adapters/tone/pin")).status_code == 400


async def test_uploaded_again_for_this_base_it_is_served(rig: ApiRig) -> None:
    version = rig.publish("tone", b"1")
    make_foreign(rig, version)
    again = rig.publish("tone", b"1")
    assert (again.version, again.digest) == (1, version.digest)
    assert (await rig.client.post("/v1/completions", json={"model": "tone", "prompt": "x"})).status_code == 200
    (message,) = rig.engine.of(Generate)
    assert message.adapter is not None
    assert message.adapter.base == rig.state.base.shape.fingerprint
