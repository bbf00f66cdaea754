"""/v1/tenants/{tenant}/limits, and what each limit does to a request."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from harness.server.api_rig import BASE, OTHER_TENANT, TENANT, ApiRig, api_rig
from headmix_server.core.messages import Abort, Classify, Embed, Generate
from headmix_server.tenancy.keys.principal import Scope
from headmix_server.tenancy.limits.rates import Rates
from tests.support.clocks.fake_clock import FakeClock
from tests.support.storage.redis_server import RedisServer

URL = f"/v1/tenants/{TENANT}/limits"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def rig(base_folder: Path, tmp_path: Path, clock: FakeClock) -> AsyncIterator[ApiRig]:
    async with api_rig(base_folder, tmp_path, rates=Rates(clock=clock)) as running:
        running.says("The fox")
        running.publish("tone", labels=("a", "b"))
        running.engine.probs, running.engine.vector = [0.5, 0.5], [0.5]
        yield running


async def limit(rig: ApiRig, **limits: Any) -> None:
    assert (await rig.client.patch(URL, json=limits)).status_code == 200


async def complete(rig: ApiRig, **more: Any) -> httpx2.Response:
    body = {"model": BASE, "prompt": [5, 6], "max_tokens": 8} | more
    return await rig.client.post("/v1/completions", json=body)


def refusal(response: httpx2.Response) -> tuple[int, str, str | None]:
    return response.status_code, response.json()["error"]["code"], response.headers.get("retry-after")


# --- administrators ------------------------------------------------------------------------------------------------


async def test_limits_are_shown_set_and_taken_back_and_every_change_is_audited(rig: ApiRig) -> None:
    assert (await rig.client.get(URL)).json()["effective"]["requests_per_minute"] == 0
    changed = (await rig.client.patch(URL, json={"requests_per_minute": 60, "weight": 2})).json()
    assert (changed["effective"]["requests_per_minute"], changed["own"]["weight"]) == (60, 2.0)
    again = (await rig.client.patch(URL, json={"weight": None})).json()
    assert (again["effective"]["weight"], again["own"]["requests_per_minute"]) == (1.0, 60)
    assert again == (await rig.client.get(URL)).json()
    entries = (await rig.client.get("/v1/audit", params={"tenant": TENANT})).json()["data"]
    details = [entry["detail"] for entry in entries if entry["action"] == "tenant.limits"]
    assert details == [{"weight": None}, {"requests_per_minute": 60, "weight": 2.0}]


@pytest.mark.parametrize(
    "body",
    [
        {"requests_per_minute": -1},
        {"weight": 0},
        {"weight": 1e9},
        {"adapters": 1.5},
        {"stored_bytes": 2**63},
        {"colour": 1},
    ],
)
async def test_an_invalid_limit_is_refused_with_its_parameter(rig: ApiRig, body: dict[str, Any]) -> None:
    response = await rig.client.patch(URL, json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, next(iter(body)))


async def test_limits_need_an_administrator_and_an_existing_tenant(rig: ApiRig) -> None:
    headers = rig.key(Scope.INFERENCE, Scope.ADAPTERS, Scope.METRICS)
    for method, body in (("GET", None), ("PATCH", {"adapters": 1})):
        assert (await rig.client.request(method, URL, json=body, headers=headers)).status_code == 403
        missing = await rig.client.request(method, "/v1/tenants/nobody/limits", json=body)
        assert refusal(missing)[:2] == (404, "not_found")


# --- requests and tokens per minute --------------------------------------------------------------------------------


async def test_a_request_over_the_rate_gets_a_retry_time_and_is_then_admitted(rig: ApiRig, clock: FakeClock) -> None:
    await limit(rig, requests_per_minute=2)
    for _ in range(2):
        assert (await complete(rig)).status_code == 200
        clock.now += 7.25
    refused = await complete(rig)
    status, code, seconds = refusal(refused)
    assert (status, code) == (429, "rate_limit_exceeded")
    assert seconds is not None
    clock.now += int(seconds) - 1
    assert (await complete(rig)).status_code == 429
    clock.now += 1
    assert (await complete(rig)).status_code == 200


async def test_tokens_over_the_rate_get_the_time_when_they_will_fit(rig: ApiRig, clock: FakeClock) -> None:
    await limit(rig, tokens_per_minute=25)
    used = 2 + len(rig.engine.reply) + 1
    assert (await complete(rig)).headers["x-ratelimit-remaining-tokens"] == str(25 - 10)
    assert (await complete(rig)).headers["x-ratelimit-remaining-tokens"] == str(25 - used - 10)
    assert (await complete(rig)).status_code == 200
    refused = await complete(rig, max_tokens=20)
    status, code, seconds = refusal(refused)
    assert (status, code) == (429, "rate_limit_exceeded")
    assert seconds is not None
    clock.now += int(seconds) - 1
    assert (await complete(rig, max_tokens=20)).status_code == 429
    clock.now += 1
    assert (await complete(rig, max_tokens=20)).status_code == 200


async def test_headers_are_openais_on_answers_streams_and_refusals_alike(rig: ApiRig, clock: FakeClock) -> None:
    await limit(rig, requests_per_minute=3, tokens_per_minute=1000)
    whole = await complete(rig)
    assert {name: value for name, value in whole.headers.items() if name.startswith("x-ratelimit")} == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "2m0s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "990",
        "x-ratelimit-reset-tokens": "2m0s",
    }
    clock.now += 0.5
    stream = await complete(rig, stream=True)
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.headers["x-ratelimit-remaining-requests"] == "1"
    assert stream.headers["x-ratelimit-reset-requests"] == "1m59.5s"
    wrong = await complete(rig, max_tokens=100_000)
    assert (wrong.status_code, wrong.headers["x-ratelimit-remaining-requests"]) == (400, "0")
    refused = await complete(rig)
    assert (refused.status_code, refused.headers["x-ratelimit-remaining-requests"]) == (429, "0")


async def test_without_limits_there_are_no_headers(rig: ApiRig) -> None:
    assert not [name for name in (await complete(rig)).headers if name.startswith("x-ratelimit")]


async def test_a_request_refused_for_its_tokens_does_not_count_as_one(rig: ApiRig) -> None:
    await limit(rig, requests_per_minute=5, tokens_per_minute=15)
    for max_tokens in (10, 20):
        await complete(rig, max_tokens=max_tokens)
    refused = await complete(rig, max_tokens=13)
    assert refused.status_code == 429
    assert refused.headers["x-ratelimit-remaining-requests"] == "4"
    assert (await complete(rig, max_tokens=1)).headers["x-ratelimit-remaining-requests"] == "3"


async def test_a_request_larger_than_the_minutes_limit_gets_no_retry_time(rig: ApiRig) -> None:
    await limit(rig, tokens_per_minute=9)
    refused = await complete(rig)
    assert refusal(refused) == (429, "rate_limit_exceeded", None)
    assert refused.headers["x-should-retry"] == "false"
    assert "limit 9, requested 10" in refused.json()["error"]["message"]


async def test_requests_at_once_cannot_reserve_more_than_the_minute(rig: ApiRig) -> None:
    await limit(rig, tokens_per_minute=35)
    rig.engine.answering = False
    flood = [asyncio.create_task(complete(rig)) for _ in range(8)]
    done = asyncio.as_completed(flood)
    refused = [(await next(done)).status_code for _ in range(5)]
    assert refused == [429] * 5
    assert len(await rig.engine.expect(Generate, 3)) == 3
    for task in flood:
        task.cancel()
    await rig.engine.aborted()


async def test_a_chat_that_names_no_length_reserves_what_its_tenant_may_have(rig: ApiRig) -> None:
    await limit(rig, tokens_per_minute=100, tokens_per_request=80)
    body = {"model": BASE, "messages": [{"role": "user", "content": "Hello"}], "n": 2}
    answer = await rig.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    (first, _) = rig.engine.of(Generate)
    prompt = len(first.prompt)
    assert first.sampling.max_tokens == (80 - prompt) // 2
    assert answer.headers["x-ratelimit-remaining-tokens"] == str(100 - prompt - 2 * first.sampling.max_tokens)


async def test_what_the_engine_never_served_is_given_back(rig: ApiRig) -> None:
    await limit(rig, tokens_per_minute=10)
    rig.engine.answering = False
    lost = asyncio.create_task(complete(rig))
    await rig.engine.expect(Generate)
    rig.state.engine.detach("it died")
    assert (await lost).status_code == 503
    taken = await rig.state.rates.take(TENANT, "tokens", 10, 10)
    assert taken.charge is not None


async def test_tokens_of_classifications_and_embeddings_count_too(rig: ApiRig) -> None:
    await limit(rig, tokens_per_minute=1000)
    for path, body in (
        ("/v1/classify", {"model": "tone", "input": ["a b c", "d"]}),
        ("/v1/embeddings", {"model": BASE, "input": ["a b c", "d"]}),
    ):
        before = (await rig.state.rates.take(TENANT, "tokens", 1, 1000)).remaining
        answer = await rig.client.post(path, json=body)
        used = answer.json()["usage"]["total_tokens"]
        assert answer.headers["x-ratelimit-remaining-tokens"] == str(before - used)


async def test_tenants_have_minutes_of_their_own(rig: ApiRig) -> None:
    await limit(rig, requests_per_minute=1)
    assert [(await complete(rig)).status_code for _ in range(2)] == [200, 429]
    answer = await rig.other.post("/v1/completions", json={"model": BASE, "prompt": "x"})
    assert answer.status_code == 200


async def test_servers_with_one_redis_share_the_minute(base_folder: Path, tmp_path: Path, redis: RedisServer) -> None:
    settings = {"limits_storage": redis.url, "limit_requests_per_minute": 3}
    statuses = []
    for name in ("one", "two"):
        async with api_rig(base_folder, tmp_path / name, settings=settings) as rig:
            rig.says("The fox")
            statuses += [(await complete(rig)).status_code for _ in range(2)]
    assert statuses == [200, 200, 200, 429]


# --- concurrent requests -------------------------------------------------------------------------------------------


async def test_a_request_above_those_at_once_is_refused_until_one_ends(rig: ApiRig) -> None:
    await limit(rig, concurrent_requests=1)
    rig.engine.answering = False
    first = asyncio.create_task(complete(rig))
    (message,) = await rig.engine.expect(Generate)
    assert refusal(await complete(rig)) == (429, "rate_limit_exceeded", "1")
    await rig.engine.send(*rig.engine.answer(message))
    assert (await first).status_code == 200
    rig.engine.answering = True
    for stream in (True, False, True, False):
        assert (await complete(rig, stream=stream)).status_code == 200


async def test_every_way_out_gives_the_place_back(rig: ApiRig) -> None:
    await limit(rig, concurrent_requests=1, requests_per_minute=100, tokens_per_minute=200)
    for body in ({"model": "none"}, {"max_tokens": 10_000}, {"max_tokens": 199}, {"n": 0}, {"prompt": ""}):
        assert (await complete(rig, **body)).status_code in (400, 404, 429)
    async with rig.client.stream("POST", "/v1/completions", content=b"{", headers={"content-length": "1"}) as cut:
        assert cut.status_code == 400
    rig.engine.answering = False
    for stream in (True, False):
        leaver = asyncio.create_task(complete(rig, stream=stream))
        await rig.engine.expect(Generate, 1 + (not stream))
        leaver.cancel()
        await rig.engine.expect(Abort, 1 + (not stream))
        while rig.state.open_requests.of(TENANT):  # noqa: ASYNC110 - the server signals nothing
            await asyncio.sleep(0.005)
    rig.engine.answering = True
    assert (await complete(rig)).status_code == 200
    assert rig.state.open_requests.of(TENANT) == 0


# --- one request, weight, metrics ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": [5, 6], "max_tokens": 9}, "max_tokens"),
        ({"prompt": [5, 6], "max_tokens": 5, "n": 2}, "max_tokens"),
        ({"prompt": [[5, 6], [7, 8]], "max_tokens": 4}, "max_tokens"),
        ({"prompt": [5] * 11, "max_tokens": 1}, "prompt"),
    ],
)
async def test_a_request_may_ask_for_no_more_tokens_than_its_tenant_may(
    rig: ApiRig, body: dict[str, Any], param: str
) -> None:
    await limit(rig, tokens_per_request=10)
    refused = await complete(rig, **body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert (await complete(rig, max_tokens=8)).status_code == 200


async def test_a_chat_names_the_parameter_it_was_asked_with(rig: ApiRig) -> None:
    await limit(rig, tokens_per_request=150)
    for param in ("max_tokens", "max_completion_tokens"):
        body = {"model": BASE, "messages": [{"role": "user", "content": "Hi"}], param: 150}
        refused = await rig.client.post("/v1/chat/completions", json=body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


async def test_a_limit_holds_from_the_next_request_on(rig: ApiRig) -> None:
    for most, status in ((10, 200), (9, 400), (0, 200), (9, 400), (None, 200)):
        await limit(rig, tokens_per_request=most)
        assert (await complete(rig)).status_code == status


async def test_the_settings_hold_for_tenants_without_limits_of_their_own(base_folder: Path, tmp_path: Path) -> None:
    async with api_rig(base_folder, tmp_path, settings={"limit_tokens_per_request": 9}) as rig:
        rig.says("The fox")
        assert (await complete(rig)).status_code == 400
        await limit(rig, tokens_per_request=0)
        assert (await complete(rig)).status_code == 200


async def test_the_weight_goes_to_the_engine_with_every_request(rig: ApiRig) -> None:
    await limit(rig, weight=2.5)
    await complete(rig)
    await rig.client.post("/v1/chat/completions", json={"model": BASE, "messages": [{"role": "user", "content": "a"}]})
    await rig.client.post("/v1/classify", json={"model": "tone", "input": "a"})
    await rig.client.post("/v1/embeddings", json={"model": BASE, "input": "a"})
    await rig.other.post("/v1/embeddings", json={"model": BASE, "input": "a"})
    sent = [(m.tenant, m.weight) for m in rig.engine.received if isinstance(m, Generate | Classify | Embed)]
    assert sent == [(TENANT, 2.5)] * 4 + [(OTHER_TENANT, 1.0)]


async def test_refusals_are_counted_by_tenant_and_limit(rig: ApiRig) -> None:
    await limit(rig, requests_per_minute=1)
    for _ in range(3):
        await complete(rig)
    await limit(rig, requests_per_minute=0, tokens_per_minute=1)
    await complete(rig)
    text = (await rig.client.get("/metrics")).text
    counted = f'headmix_rate_limited_total{{limit="%s",tenant="{TENANT}"}} %s'
    assert counted % ("requests_per_minute", "2.0") in text
    assert counted % ("tokens_per_minute", "1.0") in text
    assert 'outcome="rate_limit_exceeded"' in text
    assert "headmix_rate_limited_total" not in (await rig.client.get("/metrics", headers={"Authorization": ""})).text
