"""A route's first request costs no more than its second: otherwise the first client would hold up everybody."""

import httpx2
import pytest

from harness.server.api_rig import BASE, TENANT, ApiRig, bearer
from headmix_server.api.app import _routes, create_app, prepare_routes
from tests.support.clocks.work import counted

REQUESTS = {
    "/v1/models": ("GET", None),
    "/v1/adapters": ("GET", None),
    "/v1/tenants": ("GET", None),
    "/v1/usage": ("GET", None),
    "/v1/completions": ("POST", {"model": BASE, "prompt": "x", "max_tokens": 1}),
}


@pytest.mark.parametrize("path", REQUESTS)
async def test_the_first_request_of_a_route_is_no_more_work_than_the_second(rig: ApiRig, path: str) -> None:
    _routes.cache_clear()  # as in a new process
    app = create_app(rig.state)
    prepare_routes(app)
    method, body = REQUESTS[path]
    works = []
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://test", headers=bearer(rig.keys[TENANT])
    ) as client:
        for _ in range(2):
            with counted("/fastapi/") as work:
                assert (await client.request(method, path, json=body)).status_code == 200
            works.append(work.instructions)
    first, second = works
    assert 0 < first < 2 * second


def test_a_second_application_builds_no_route_again(rig: ApiRig) -> None:
    prepare_routes(create_app(rig.state))
    with counted("/pydantic/") as work:
        prepare_routes(create_app(rig.state))
    assert work.instructions == 0
