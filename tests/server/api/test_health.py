import asyncio
from pathlib import Path

import httpx2

from headmix_server.core.messages import Generate
from tests.support.api_rig import BASE, ApiRig, api_rig


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
    async with httpx2.AsyncClient(base_url=rig.url) as scraper:
        response = await scraper.get("/metrics")
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


async def test_probes_and_scrapes_are_not_counted(rig: ApiRig) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        await rig.client.get(path)
    assert "headmix_requests_total{" not in (await rig.client.get("/metrics")).text
