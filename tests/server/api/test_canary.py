"""Canaries over HTTP: which version answers, how it is chosen and reported, and what is counted for both."""

from collections import Counter
from typing import Any

import pytest

from harness.server.api_rig import TENANT, ApiRig
from headmix_server.catalog.rollout.canary import draw_of
from headmix_server.core.messages import Generate
from headmix_server.tenancy.keys.principal import Scope
from tests.server.api.test_adapters import artifact, upload

URL = "/v1/adapters/tone/canary"
PUBLISHED = (b"1", b"2")
MEETS, MISSES = "user-1", "user-0"


def test_the_keys_of_these_tests_draw_on_both_sides_of_a_half() -> None:
    assert draw_of(MEETS, "tone") < 50 <= draw_of(MISSES, "tone")


async def start(rig: ApiRig, percent: int = 50) -> Any:
    """Make version 1 current and version 2 its canary."""
    for content in PUBLISHED:
        rig.publish("tone", content)
    await rig.client.post("/v1/adapters/tone/rollback", json={"version": 1})
    return await rig.client.put(URL, json={"version": 2, "percent": percent})


async def complete(rig: ApiRig, model: str = "tone", key: str | None = None, **params: Any) -> Any:
    headers = {} if key is None else {"x-headmix-canary-key": key}
    return await rig.client.post("/v1/completions", json={"model": model, "prompt": "x", **params}, headers=headers)


def version_of(response: Any) -> int:
    reference: str = response.headers["x-headmix-adapter"].split(" ")[0]
    return int(reference.rpartition("@")[2])


async def test_an_upload_beside_the_current_version_answers_nobody_until_it_is_a_canary(
    rig: ApiRig, tmp_path: Any
) -> None:
    await upload(rig, artifact(rig, tmp_path))
    response = await upload(rig, artifact(rig, tmp_path, 1), current="false")
    assert (response.status_code, response.json()["version"], response.json()["current"]) == (201, 2, False)
    assert (await upload(rig, artifact(rig, tmp_path, 1), current="false")).status_code == 200
    assert version_of(await complete(rig)) == 1
    started = await rig.client.put(URL, json={"version": 2, "percent": 100})
    assert (started.json()["version"], started.json()["canary"]) == (1, {"version": 2, "percent": 100})
    assert version_of(await complete(rig)) == 2
    first = await upload(rig, artifact(rig, tmp_path), "new", current="false")
    assert (first.status_code, first.json()["error"]["param"]) == (400, "current")
    odd = await upload(rig, artifact(rig, tmp_path), current="maybe")
    assert (odd.status_code, odd.json()["error"]["param"]) == (400, "current")


async def test_the_header_says_which_version_answered_and_the_engine_got_that_one(rig: ApiRig) -> None:
    await start(rig)
    seen = Counter[int]()
    for _ in range(24):
        response = await complete(rig)
        seen[version_of(response)] += 1
        adapter = rig.engine.of(Generate)[-1].adapter
        assert adapter is not None
        assert response.headers["x-headmix-adapter"] == f"tone@{adapter.version} {adapter.digest}"
    assert set(seen) == {1, 2}


@pytest.mark.parametrize("how", ["header", "user"])
async def test_a_key_of_the_clients_decides_and_always_alike(rig: ApiRig, how: str) -> None:
    await start(rig)
    for key, version in ((MEETS, 2), (MISSES, 1)):
        for _ in range(3):
            response = await complete(rig, key=key) if how == "header" else await complete(rig, user=key)
            assert version_of(response) == version


async def test_the_header_goes_before_the_user(rig: ApiRig) -> None:
    await start(rig)
    assert version_of(await complete(rig, key=MEETS, user=MISSES)) == 2
    assert version_of(await complete(rig, key=MISSES, user=MEETS)) == 1


async def test_a_named_version_is_exact_and_what_is_shown_is_the_current_one(rig: ApiRig) -> None:
    await start(rig, 100)
    for version in (1, 2):
        assert version_of(await complete(rig, f"tone@{version}")) == version
    for path in ("/v1/adapters/tone", "/v1/models/tone"):
        assert (await rig.client.get(path)).json()["version"] == 1
    assert (await rig.client.post("/v1/adapters/tone/load")).json()["version"] == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"model": "tone", "messages": [{"role": "user", "content": "x"}]}),
        ("/v1/embeddings", {"model": "tone", "input": "x"}),
        ("/v1/completions", {"model": "tone", "prompt": "x", "stream": True}),
    ],
)
async def test_every_route_takes_part(rig: ApiRig, path: str, body: dict[str, Any]) -> None:
    rig.engine.vector = [1.0]
    await start(rig)
    for key, version in ((MEETS, 2), (MISSES, 1)):
        response = await rig.client.post(path, json={**body, "user": key})
        assert (response.status_code, version_of(response)) == (200, version)


async def test_both_versions_are_counted_side_by_side_until_the_next_canary_starts(rig: ApiRig) -> None:
    await start(rig)
    rig.says("Hi")
    for key in (MEETS, MEETS, MISSES):
        await complete(rig, key=key)
    await complete(rig, "tone@2")
    labels = f'adapter="tone",tenant="{TENANT}",version='
    counts = await scraped(rig)
    assert {
        line: counts[f"headmix_adapter_version_request_seconds_count{{{labels}{line}}}"] for line in ('"1"', '"2"')
    } == {
        '"1"': 1,
        '"2"': 2,
    }
    outcome = 'adapter="tone",outcome="ok",tenant="tenant",version="2"'
    assert counts[f"headmix_adapter_version_requests_total{{{outcome}}}"] == 2
    assert counts[f'headmix_adapter_version_first_token_seconds_count{{{labels}"2"}}'] == 2
    tokens = len(rig.encode("Hi")) + 1
    assert counts[f'headmix_adapter_version_generation_tokens_total{{{labels}"2"}}'] == 2 * tokens
    await rig.client.delete(URL)
    assert await scraped(rig) == counts
    await rig.client.put(URL, json={"version": 2, "percent": 1})
    assert await scraped(rig) == {}


async def scraped(rig: ApiRig) -> dict[str, float]:
    """Return the samples of the metrics that compare versions, without histogram buckets and sums."""
    lines = (await rig.client.get("/metrics")).text.splitlines()
    samples = [line.rpartition(" ") for line in lines if line.startswith("headmix_adapter_version_")]
    return {name: float(value) for name, _, value in samples if "_bucket" not in name and "_sum" not in name}


async def test_without_a_canary_no_version_has_series_of_its_own(rig: ApiRig) -> None:
    rig.publish("tone")
    await complete(rig)
    assert await scraped(rig) == {}


async def test_promoting_makes_it_current_and_ending_it_leaves_the_current_one(rig: ApiRig) -> None:
    await start(rig, 100)
    ended = (await rig.client.delete(URL)).json()
    assert (ended["version"], ended["canary"]) == (1, None)
    assert version_of(await complete(rig)) == 1
    refused = await rig.client.post(f"{URL}/promote")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request_error")
    await rig.client.put(URL, json={"version": 2, "percent": 1})
    promoted = (await rig.client.post(f"{URL}/promote")).json()
    assert (promoted["version"], promoted["current"], promoted["canary"]) == (2, True, None)
    assert (await rig.client.post("/v1/adapters/tone/rollback")).json()["version"] == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"version": 2}, "percent"),
        ({"percent": 5}, "version"),
        ({"version": 2, "percent": 101}, "percent"),
        ({"version": 2, "percent": -1}, "percent"),
        ({"version": 0, "percent": 5}, "version"),
        ({"version": 1, "percent": 5}, "version"),
        ({"version": 3, "percent": 5}, "version"),
    ],
)
async def test_an_invalid_canary_is_refused_with_its_parameter(rig: ApiRig, body: dict[str, int], param: str) -> None:
    await start(rig)
    rig.publish("tone", b"3", labels=("a", "b"))
    await rig.client.post("/v1/adapters/tone/rollback", json={"version": 1})
    response = await rig.client.put(URL, json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_a_missing_version_is_not_found(rig: ApiRig) -> None:
    await start(rig)
    response = await rig.client.put(URL, json={"version": 9, "percent": 5})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("scope", [Scope.INFERENCE, Scope.METRICS, Scope.ADMIN])
async def test_a_canary_needs_the_scope_for_adapters(rig: ApiRig, scope: Scope) -> None:
    rig.publish("tone")
    for method, path in (("PUT", URL), ("DELETE", URL), ("POST", f"{URL}/promote")):
        assert (await rig.client.request(method, path, headers=rig.key(scope))).status_code == 403
