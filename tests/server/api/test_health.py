import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from harness.server.api_rig import BASE, ApiRig, api_rig
from headmix_server.core.messages import Generate
from headmix_server.tenancy.keys.principal import Scope


async def test_a_server_is_alive_without_an_engine_and_ready_only_with_one(base_folder: Path, tmp_path: Path) -> None:
    async with api_rig(base_folder, tmp_path, connected=False) as rig, httpx2.AsyncClient(base_url=rig.url) as probe:
        assert (await probe.get("/healthz")).json() == {"status": "ok"}
        response = await probe.get("/readyz")
        assert response.status_code == 503
        assert response.json() == {"status": "starting", "reason": "the engine is starting"}
        assert response.headers["retry-after"] == "2"
        async with rig.engine:
            await rig.state.engine.wait_ready()
            ready = await probe.get("/readyz")
            assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
            rig.state.engine.drain()
            assert (await probe.get("/readyz")).json()["status"] == "draining"
        rig.state.engine.detach("the engine ended with signal SIGKILL")
        assert (await probe.get("/readyz")).json() == {
            "status": "down",
            "reason": "the engine ended with signal SIGKILL",
        }


async def test_health_is_vllms_200_when_ready_and_503_when_not_never_with_a_body(
    base_folder: Path, tmp_path: Path
) -> None:
    async with api_rig(base_folder, tmp_path, connected=False) as rig, httpx2.AsyncClient(base_url=rig.url) as probe:
        starting = await probe.get("/health")
        assert (starting.status_code, starting.content, starting.headers["retry-after"]) == (503, b"", "2")
        async with rig.engine:
            await rig.state.engine.wait_ready()
            ready = await probe.get("/health")
            assert (ready.status_code, ready.content) == (200, b"")
            rig.state.engine.drain()
            assert (await probe.get("/health")).status_code == 503
        rig.state.engine.detach("the engine ended")
        assert (await probe.get("/health")).status_code == 503


async def test_a_probe_may_ask_with_head_and_gets_what_get_says_but_its_body(base_folder: Path, tmp_path: Path) -> None:
    async with api_rig(base_folder, tmp_path, connected=False) as rig, httpx2.AsyncClient(base_url=rig.url) as probe:
        for path, status in (("/healthz", 200), ("/readyz", 503), ("/health", 503), ("/metrics", 200)):
            head, got = await probe.head(path), await probe.get(path)
            assert (head.status_code, got.status_code) == (status, status)
            assert head.content == b""
            assert head.headers.get("content-type") == got.headers.get("content-type")
            assert head.headers.get("retry-after") == got.headers.get("retry-after")


async def test_a_request_whose_engine_dies_is_answered_with_the_reason(rig: ApiRig) -> None:
    rig.engine.answering = False
    body = {"model": BASE, "prompt": "x"}
    tasks = [
        asyncio.create_task(rig.client.post("/v1/completions", json={**body, "stream": stream}))
        for stream in (False, True)
    ]
    await rig.engine.expect(Generate, 2)
    rig.state.engine.detach("the engine ended with signal SIGKILL")
    for task in tasks:
        response = await task
        assert (response.status_code, response.json()["error"]["code"]) == (503, "engine_unavailable")
        assert "SIGKILL" in response.json()["error"]["message"]
        assert response.headers["retry-after"] == "2"


async def test_metrics_count_requests_by_route_tenant_adapter_and_outcome(rig: ApiRig) -> None:
    rig.publish("tone")
    rig.says("The fox")
    await rig.client.post("/v1/completions", json={"model": "tone", "prompt": "Hello"})
    await rig.client.post("/v1/completions", json={"model": "nothing", "prompt": "Hello"})
    response = await rig.client.get("/metrics", headers=rig.key(Scope.METRICS))
    lines = response.text.splitlines()
    labels = 'adapter="tone",outcome="ok",route="/v1/completions",tenant="tenant"'
    made = len(rig.encode("The fox")) + 1
    assert response.headers["content-type"].startswith("text/plain")
    assert f"headmix_requests_total{{{labels}}} 1.0" in lines
    assert f'headmix_generation_tokens_total{{adapter="tone",tenant="tenant"}} {made}.0' in lines
    assert any('outcome="model_not_found"' in line and 'adapter=""' in line for line in lines)
    assert "headmix_time_to_first_token_seconds_count 1.0" in lines
    assert f"headmix_inter_token_latency_seconds_count {made - 1}.0" in lines
    assert "headmix_queue_time_seconds_sum 0.25" in lines


async def test_without_a_key_the_metrics_name_no_tenant_and_no_adapter(rig: ApiRig) -> None:
    rig.publish("tone")
    await rig.client.post("/v1/completions", json={"model": "tone", "prompt": "Hello"})
    async with httpx2.AsyncClient(base_url=rig.url) as scraper:
        text = (await scraper.get("/metrics")).text
        wrong = await scraper.get("/metrics", headers={"Authorization": "Bearer hm_wrong"})
    assert "headmix_e2e_request_latency_seconds_count 1.0" in text
    assert "tone" not in text
    assert 'tenant="' not in text
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(("scope", "status"), [(Scope.METRICS, 200), (Scope.ADMIN, 200), (Scope.INFERENCE, 403)])
async def test_only_keys_that_may_see_tenants_in_the_metrics(rig: ApiRig, scope: Scope, status: int) -> None:
    assert (await rig.client.get("/metrics", headers=rig.key(scope))).status_code == status


@pytest.mark.parametrize("settings", [{"metrics_open": True}, {"keys": "off"}])
async def test_open_metrics_need_no_key(base_folder: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    async with (
        api_rig(base_folder, tmp_path, settings=settings) as rig,
        httpx2.AsyncClient(base_url=rig.url) as scraper,
    ):
        rig.state.metrics.request_finished("/r", "acme", None, "ok", seconds=1)
        assert 'tenant="acme"' in (await scraper.get("/metrics")).text


async def test_probes_and_scrapes_are_not_counted(rig: ApiRig) -> None:
    for path in ("/health", "/healthz", "/readyz", "/metrics"):
        await rig.client.get(path)
    assert "headmix_requests_total{" not in (await rig.client.get("/metrics")).text
