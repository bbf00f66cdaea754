"""A server whose lease is not confirmed accepts no new requests on any route; running requests go on."""

import asyncio
from pathlib import Path

from harness.server.api_rig import BASE, api_rig
from headmix_server.api.app import create_app
from headmix_server.core.messages import Generate
from tests.server.api.test_database_away import BODIES, NAMES, NO_DATABASE


async def test_every_route_but_the_probes_is_refused_before_anything_else(base_folder: Path, tmp_path: Path) -> None:
    reasons: list[str] = []
    async with api_rig(base_folder, tmp_path, refusal=lambda: reasons[0] if reasons else None) as rig:
        rig.publish("poet")
        paths = create_app(rig.state).openapi()["paths"]
        routes = [(method.upper(), path) for path, methods in paths.items() for method in methods]
        reasons.append("another server has taken over the database")
        for method, path in routes:
            route = f"{method} {path}"
            answer = await rig.client.request(method, path.format(**NAMES), json=BODIES.get(route))
            if route in NO_DATABASE - {"GET /metrics"}:
                assert answer.status_code == 200, route
                continue
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (503, "storage_unavailable"), route
            assert error["message"] == "Another server has taken over the database; try again."
            assert answer.headers["retry-after"] == "5"
        assert rig.engine.of(Generate) == []
        reasons.clear()
        assert (await rig.client.get("/v1/models")).status_code == 200


async def test_a_request_that_runs_is_answered(base_folder: Path, tmp_path: Path) -> None:
    reasons: list[str] = []
    async with api_rig(base_folder, tmp_path, refusal=lambda: reasons[0] if reasons else None) as rig:
        rig.engine.answering = False
        running = asyncio.create_task(rig.client.post("/v1/completions", json={"model": BASE, "prompt": "x"}))
        (message,) = await rig.engine.expect(Generate)
        reasons.append("the database cannot be reached")
        await rig.engine.send(*rig.engine.answer(message))
        assert (await running).status_code == 200
