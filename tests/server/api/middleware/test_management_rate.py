"""Every route has a rate: model routes the tenant's limits, the others this one, invalid keys one per address."""

from pathlib import Path

import httpx2

from harness.server.api_rig import BASE, api_rig
from headmix_server.tenancy.keys.keys import Keys
from tests.server.api.middleware.test_guard import guarded
from tests.server.api.test_database_away import BODIES, NAMES
from tests.server.api.test_indistinguishable import ROUTES

MODEL_ROUTES = {route.path for route in ROUTES if not route.in_path} - {"/v1/fine_tuning/jobs"}


async def test_every_route_but_inference_counts_towards_the_management_rate(base_folder: Path, tmp_path: Path) -> None:
    async with api_rig(base_folder, tmp_path, settings={"limit_management_per_minute": 2}) as rig:
        for _ in range(2):
            assert (await rig.client.get("/v1/models")).status_code == 200
        for route in guarded():
            body = BODIES.get(str(route))
            response = await rig.client.request(route.method, route.path.format(**NAMES), json=body)
            if route.path in MODEL_ROUTES:
                assert response.status_code != 429
                continue
            assert response.status_code == 429, route
            error = response.json()["error"]
            assert error["code"] == "rate_limit_exceeded"
            assert "management requests per minute: limit 2" in error["message"]
            assert 1 <= int(response.headers["retry-after"]) <= 120
        assert (await rig.other.get("/v1/models")).status_code == 200  # another tenant has its own minute
        assert (await rig.client.post("/v1/completions", json={"model": BASE, "prompt": "x"})).status_code == 200


async def test_no_limit_is_no_limit(base_folder: Path, tmp_path: Path) -> None:
    async with api_rig(base_folder, tmp_path, settings={"limit_management_per_minute": 0}) as rig:
        answers = [(await rig.client.get("/v1/models")).status_code for _ in range(20)]
        assert answers == [200] * 20


async def test_an_address_with_too_many_invalid_keys_is_not_looked_up_but_known_keys_pass(
    base_folder: Path, tmp_path: Path
) -> None:
    async with (
        api_rig(base_folder, tmp_path, settings={"limit_failed_keys_per_minute": 3}) as rig,
        httpx2.AsyncClient(base_url=rig.url) as guesser,
    ):
        assert (await rig.client.get("/v1/models")).status_code == 200
        wrong = {"Authorization": "Bearer hm_" + "x" * 43}
        assert [(await guesser.get("/v1/models", headers=wrong)).status_code for _ in range(4)] == [401, 401, 401, 429]
        refused = await guesser.post("/v1/completions", headers=wrong, json={"model": BASE, "prompt": "x"})
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert int(refused.headers["retry-after"]) <= 20
        assert (await guesser.get("/v1/models")).status_code == 401  # a request without a key is not counted
        assert (await rig.client.get("/v1/models")).status_code == 200  # a valid key, from the same address
        assert isinstance(rig.state.keys, Keys)
        assert (await guesser.get("/v1/models", headers=rig.key())).status_code == 429  # not yet known to be valid
