"""Pins are sent to the engine, follow the current version, are resent to a new engine, and never applied halfway."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.server.api_rig import OTHER_TENANT, ApiRig, api_rig
from harness.server.fake_engine import FakeEngine
from headmix_server.core.messages import Abort, AdapterLoaded, Failed, LoadAdapter, Output, ToEngine, UnpinAdapter
from headmix_server.core.types import Residency
from headmix_server.tenancy.keys.principal import Scope

URL = "/v1/adapters/tone/pin"


async def pinned(rig: ApiRig, name: str = "tone") -> bool:
    return bool((await rig.client.get(f"/v1/adapters/{name}")).json()["pinned"])


async def until(rig: ApiRig, *digests: str) -> None:
    """Wait until the pinning has nothing left to do and the engine has been told to keep exactly these."""
    await rig.state.pinning.drain()
    await rig.engine.comes_to(lambda: kept(rig.engine) == set(digests))


def kept(engine: FakeEngine) -> set[str]:
    """Return what an engine that follows its orders has pinned."""
    digests = set[str]()
    for message in engine.received:
        if isinstance(message, LoadAdapter) and message.pin:
            digests.add(message.adapter.digest)
        elif isinstance(message, UnpinAdapter):
            digests.discard(message.digest)
    return digests


def failing(engine: FakeEngine, *digests: str) -> None:
    """Make the engine refuse to load these."""
    usual = engine.answer

    def answer(message: ToEngine) -> Sequence[Output]:
        if isinstance(message, LoadAdapter) and message.adapter.digest in digests:
            return [Failed(request_id=message.request_id, code="server_overloaded", message="no slot for a pin")]
        return usual(message)

    engine.answer = answer


async def test_a_pin_answers_once_the_adapter_is_on_the_device_and_holds_it(rig: ApiRig) -> None:
    version = rig.publish("tone")
    response = await rig.client.post(URL)
    assert response.status_code == 200
    found = response.json()
    assert (found["pinned"], found["resident"], found["version"]) == (True, "device", 1)
    (message,) = rig.engine.of(LoadAdapter)
    assert (message.pin, message.adapter) == (True, rig.state.library.ref(version))
    assert await pinned(rig)
    assert rig.state.library.holds.is_held(version.digest)
    again = await rig.client.post(URL)
    assert again.json() == found


async def test_an_unpinned_adapter_may_leave_again(rig: ApiRig) -> None:
    version = rig.publish("tone")
    await rig.client.post(URL)
    for _ in range(2):
        response = await rig.client.delete(URL)
        assert (response.status_code, response.json()["pinned"]) == (200, False)
    await until(rig)
    assert [message.digest for message in rig.engine.of(UnpinAdapter)] == [version.digest]
    assert not rig.state.library.holds.is_held(version.digest)


async def test_a_failing_pin_is_reported_and_leaves_nothing(rig: ApiRig) -> None:
    version = rig.publish("tone")
    failing(rig.engine, version.digest)
    response = await rig.client.post(URL)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "server_overloaded")
    assert response.json()["error"]["message"] == "no slot for a pin"
    assert not await pinned(rig)
    await until(rig)
    assert not rig.state.library.holds.is_held(version.digest)


async def test_a_client_that_leaves_while_its_pin_waits_leaves_nothing(rig: ApiRig) -> None:
    version = rig.publish("tone")
    rig.engine.answering = False
    asking = asyncio.create_task(rig.client.post(URL))
    await rig.engine.expect(LoadAdapter)
    asking.cancel()
    await rig.engine.expect(Abort)
    await rig.engine.expect(UnpinAdapter)
    assert not await pinned(rig)
    assert not rig.state.library.holds.is_held(version.digest)


async def test_without_an_engine_nothing_is_pinned(base_folder: Path, tmp_path: Path) -> None:
    async with api_rig(base_folder, tmp_path, connected=False) as rig:
        rig.publish("tone")
        assert (await rig.client.post(URL)).status_code == 503
        assert not await pinned(rig)
        assert (await rig.client.delete(URL)).status_code == 200


async def test_a_pin_follows_the_current_version_and_lets_the_old_one_go_once_the_new_one_is_there(rig: ApiRig) -> None:
    first = rig.publish("tone", b"1")
    await rig.client.post(URL)
    second = rig.publish("tone", b"2")
    rig.engine.answering = False
    message = (await rig.engine.expect(LoadAdapter, 2))[-1]
    assert (message.pin, message.adapter.digest) == (True, second.digest)
    assert rig.engine.of(UnpinAdapter) == []
    await rig.engine.send(AdapterLoaded(request_id=message.request_id, digest=second.digest, seconds=0.1))
    (gone,) = await rig.engine.expect(UnpinAdapter)
    assert gone.digest == first.digest
    rig.engine.answering = True
    assert (await rig.client.post("/v1/adapters/tone/rollback")).status_code == 200
    await until(rig, first.digest)
    assert await pinned(rig)


async def test_a_new_version_without_a_free_slot_takes_the_old_ones(rig: ApiRig) -> None:
    first = rig.publish("tone", b"1")
    await rig.client.post(URL)
    second = rig.publish("tone", b"2")
    usual = rig.engine.answer

    def full(message: ToEngine) -> Sequence[Output]:
        if isinstance(message, LoadAdapter) and first.digest in kept(rig.engine):
            return [Failed(request_id=message.request_id, code="server_overloaded", message="every slot is pinned")]
        return usual(message)

    rig.engine.answer = full
    loads = await rig.engine.expect(LoadAdapter, 3)
    assert [load.adapter.digest for load in loads] == [first.digest, second.digest, second.digest]
    await until(rig, second.digest)
    assert await pinned(rig)


async def test_an_adapter_that_cannot_be_loaded_is_retried_until_it_can(rig: ApiRig) -> None:
    rig.state.pinning._retry_seconds = 0.01
    rig.publish("tone", b"1")
    await rig.client.post(URL)
    second = rig.publish("tone", b"2")
    usual = rig.engine.answer
    failing(rig.engine, second.digest)
    await rig.engine.expect(LoadAdapter, 5)
    assert await pinned(rig)
    rig.engine.answer = usual
    await until(rig, second.digest)


async def test_a_pin_that_waits_keeps_no_other_waiting(rig: ApiRig) -> None:
    rig.publish("tone", b"1")
    await rig.client.post(URL)
    rig.publish("tone", b"2")
    usual = rig.engine.answer

    def stuck(message: ToEngine) -> Sequence[Output]:
        waits = isinstance(message, LoadAdapter) and message.adapter.name == "tone"
        return [] if waits else usual(message)

    rig.engine.answer = stuck
    await rig.engine.expect(LoadAdapter, 2)
    style = rig.publish("style")
    assert (await rig.client.post("/v1/adapters/style/pin")).status_code == 200
    await rig.client.delete("/v1/adapters/style/pin")
    gone = await rig.engine.expect(UnpinAdapter)
    assert style.digest in {message.digest for message in gone}
    await rig.client.delete(URL)
    await until(rig)


async def test_the_next_engine_gets_all_pins_again(rig: ApiRig) -> None:
    versions = [rig.publish(name) for name in ("tone", "style")]
    for name in ("tone", "style"):
        await rig.client.post(f"/v1/adapters/{name}/pin")
    rig.state.engine.detach("it died")
    rig.publish("tone", b"2")
    endpoint = f"{rig.endpoint}-next"
    rig.state.engine.attach(endpoint)
    async with FakeEngine(endpoint) as engine:
        rig.engine = engine
        current = (await rig.client.get("/v1/adapters/tone")).json()["digest"]
        await until(rig, current, versions[1].digest)
        assert all(message.pin for message in engine.of(LoadAdapter))
        rig.state.engine.detach("the test is over")


async def test_pins_outlive_the_server(base_folder: Path, tmp_path: Path) -> None:
    async with api_rig(base_folder, tmp_path) as rig:
        version = rig.publish("tone")
        await rig.client.post(URL)
    async with api_rig(base_folder, tmp_path) as rig:
        await until(rig, version.digest)
        assert await pinned(rig)


async def test_two_names_of_the_same_bytes_hold_them_until_both_are_unpinned(rig: ApiRig) -> None:
    version = rig.publish("tone", b"same")
    rig.publish("style", b"same")
    for name in ("tone", "style"):
        await rig.client.post(f"/v1/adapters/{name}/pin")
    await rig.client.delete(URL)
    await until(rig, version.digest)
    assert rig.engine.of(UnpinAdapter) == []
    await rig.client.delete("/v1/adapters/style/pin")
    await until(rig)


async def test_a_deleted_adapter_is_let_go_and_its_bytes_are_freed(rig: ApiRig) -> None:
    version = rig.publish("tone")
    await rig.client.post(URL)
    await rig.client.delete("/v1/adapters/tone")
    await until(rig)
    await asyncio.to_thread(rig.state.library.drain)
    assert not rig.state.library.path(version).exists()


async def test_only_the_owner_pins_also_what_it_shares(rig: ApiRig) -> None:
    rig.publish("tone")
    await rig.client.put("/v1/adapters/tone/sharing", json={"tenants": [OTHER_TENANT]})
    for method in ("POST", "DELETE"):
        response = await rig.other.request(method, URL, params={"owner": "tenant"})
        assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")
    assert rig.engine.received == []


@pytest.mark.parametrize("scope", [Scope.INFERENCE, Scope.METRICS, Scope.ADMIN])
async def test_a_pin_needs_the_scope_for_adapters(rig: ApiRig, scope: Scope) -> None:
    rig.publish("tone")
    for method in ("POST", "DELETE"):
        assert (await rig.client.request(method, URL, headers=rig.key(scope))).status_code == 403


async def test_two_tenants_with_the_same_bytes_have_a_pin_each_and_see_only_their_own(rig: ApiRig) -> None:
    version = rig.publish("tone", b"the same")
    rig.publish("copy", b"the same", tenant=OTHER_TENANT)
    await rig.client.post(URL)
    rig.state.engine.resident = {("tenant", version.digest): Residency.DEVICE}
    assert (await rig.client.get("/v1/adapters/tone")).json()["resident"] == "device"
    for path in ("/v1/adapters/copy", "/v1/models/copy"):
        assert (await rig.other.get(path)).json()["resident"] == "disk"
    assert (await rig.other.get("/v1/adapters")).json()["data"][0]["resident"] == "disk"
    await rig.other.post("/v1/adapters/copy/pin")
    await rig.client.delete(URL)
    await rig.state.pinning.drain()
    (ended,) = await rig.engine.expect(UnpinAdapter)
    assert (ended.digest, ended.tenant) == (version.digest, "tenant")
    assert [message.adapter.tenant for message in rig.engine.of(LoadAdapter)] == ["tenant", OTHER_TENANT]
    assert rig.state.library.holds.is_held(version.digest)
