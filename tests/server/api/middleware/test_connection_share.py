"""How many of the server's connections one tenant may hold."""

from contextlib import AsyncExitStack
from pathlib import Path

from harness.server.api_rig import BASE, TENANT, api_rig
from tests.server.api.middleware.body.test_body_limit import sending


async def test_a_tenant_holds_half_of_the_connections_and_no_more_on_whatever_routes(
    base_folder: Path, tmp_path: Path
) -> None:
    body = {"model": BASE, "prompt": "x"}
    async with api_rig(base_folder, tmp_path, settings={"max_connections": 5}) as rig:
        async with AsyncExitStack() as opened:
            for path in ("/v1/adapters", "/v1/completions"):
                await opened.enter_async_context(sending(rig, path, 1000))
            while rig.state.open_on_any_route.of(TENANT) < 2:
                await rig.other.get("/v1/models")
            for refused in (await rig.client.get("/v1/models"), await rig.client.post("/v1/completions", json=body)):
                assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
                assert refused.headers["retry-after"] == "1"
            assert (await rig.other.post("/v1/completions", json=body)).status_code == 200
        while rig.state.open_on_any_route.of(TENANT):
            await rig.other.get("/v1/models")
        assert (await rig.client.post("/v1/completions", json=body)).status_code == 200
        assert rig.state.open_on_any_route.of(TENANT) == 0
