"""Several adapters in one request: what the engine is asked, what is refused, and who is named in headers and logs."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import structlog

from harness.server.api_rig import BASE, OTHER_TENANT, TENANT, ApiRig
from headmix_server.core.messages import Classify, Embed, Generate, Request
from headmix_server.core.types import ScaledAdapter
from headmix_server.tenancy.keys.principal import Scope

Json = dict[str, Any]
ROUTES: dict[str, Json] = {
    "/v1/completions": {"prompt": "x"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}]},
    "/v1/classify": {"input": ["x", "y"]},
    "/v1/embeddings": {"input": ["x", "y"]},
}
GENERATES = ("/v1/completions", "/v1/chat/completions")


@pytest.fixture(autouse=True)
def published(rig: ApiRig) -> None:
    for name in ("poet", "brief", "calm", "long", "wide"):
        rig.publish(name)
    rig.publish("mood", labels=("good", "bad"))
    rig.engine.probs, rig.engine.vector = [0.5, 0.5], [1.0]


def first_of(route: str) -> str:
    return "mood" if route == "/v1/classify" else "poet"


async def ask(rig: ApiRig, route: str, adapters: object, model: str = BASE, **more: Any) -> Any:
    return await rig.client.post(route, json={"model": model, "adapters": adapters, **ROUTES[route], **more})


async def refusal(rig: ApiRig, route: str, adapters: object, model: str = BASE) -> tuple[int, str, str]:
    before = len(requests_of(rig))
    response = await ask(rig, route, adapters, model)
    assert len(requests_of(rig)) == before
    error = response.json()["error"]
    return response.status_code, error["code"], error["param"]


def requests_of(rig: ApiRig) -> list[Request]:
    return [*rig.engine.of(Generate), *rig.engine.of(Classify), *rig.engine.of(Embed)]


def names(message: Request) -> list[tuple[str, int, float]]:
    assert message.adapter is not None
    everyone = (ScaledAdapter(adapter=message.adapter, scale=message.scale), *message.beside)
    return [(one.adapter.name, one.adapter.version, one.scale) for one in everyone]


@pytest.mark.parametrize("route", ROUTES)
async def test_every_route_asks_the_engine_for_all_adapters_with_their_scales(rig: ApiRig, route: str) -> None:
    first = first_of(route)
    response = await ask(rig, route, [{"name": first, "scale": 0.7}, {"name": "brief", "scale": -2}, {"name": "calm"}])
    assert response.status_code == 200, response.text
    messages = requests_of(rig)
    assert messages
    for message in messages:
        assert names(message) == [(first, 1, 0.7), ("brief", 1, -2.0), ("calm", 1, 1.0)]
        assert message.beside[0].adapter == rig.state.library.ref(rig.state.library.catalog.resolve(TENANT, "brief"))


@pytest.mark.parametrize("route", ROUTES)
async def test_the_model_is_the_base_or_the_first_adapter_once_more(rig: ApiRig, route: str) -> None:
    first = first_of(route)
    adapters = [{"name": first}, {"name": "brief"}]
    for model in (BASE, first):
        assert (await ask(rig, route, adapters, model)).status_code == 200
    for model in ("brief", "nobody", f"{first}@1"):
        assert await refusal(rig, route, adapters, model) == (400, "invalid_request_error", "model")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("adapters", [None, []])
async def test_without_any_in_the_list_the_model_decides_alone(rig: ApiRig, route: str, adapters: object) -> None:
    response = await ask(rig, route, adapters, first_of(route))
    assert names(requests_of(rig)[0]) == [(first_of(route), 1, 1.0)]
    assert "x-headmix-adapters" not in response.headers


@pytest.mark.parametrize("route", ROUTES)
async def test_a_list_of_one_unscaled_adapter_asks_what_its_name_as_model_asks(rig: ApiRig, route: str) -> None:
    first = first_of(route)
    await ask(rig, route, [{"name": first, "scale": 1}], seed=1) if route in GENERATES else await ask(
        rig, route, [{"name": first, "scale": None}]
    )
    given = requests_of(rig)[-1]
    assert (given.scale, given.beside) == (1.0, ())
    assert names(given) == [(first, 1, 1.0)]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("place", [0, 1])
async def test_an_adapter_that_is_unknown_or_anothers_is_the_same_404_that_names_the_list(
    rig: ApiRig, route: str, place: int
) -> None:
    rig.publish("theirs", tenant=OTHER_TENANT)
    bodies = []
    for name in ("theirs", "nobody", f"{OTHER_TENANT}/theirs", f"{OTHER_TENANT}/nobody", "brief@9", BASE):
        adapters = [{"name": first_of(route)}]
        adapters.insert(place, {"name": name})
        response = await ask(rig, route, adapters)
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (404, "model_not_found", "adapters"), name
        bodies.append(response.text.replace(name, "NAME"))
    assert len(set(bodies)) == 1
    assert not requests_of(rig)


async def test_a_shared_adapter_may_be_one_of_several(rig: ApiRig) -> None:
    rig.publish("theirs", tenant=OTHER_TENANT)
    shared = await rig.other.put("/v1/adapters/theirs/sharing", json={"tenants": [TENANT]})
    assert shared.status_code == 200
    response = await ask(rig, "/v1/completions", [{"name": "poet"}, {"name": f"{OTHER_TENANT}/theirs", "scale": 0.5}])
    assert response.status_code == 200
    (message,) = rig.engine.of(Generate)
    assert names(message)[1] == (f"{OTHER_TENANT}/theirs", 1, 0.5)
    assert (message.tenant, message.beside[0].adapter.tenant) == (TENANT, TENANT)


async def test_each_is_resolved_to_its_own_version_and_canary(rig: ApiRig) -> None:
    rig.publish("poet", b"poet 2")
    rig.publish("calm", b"calm 2")
    await rig.client.post("/v1/adapters/calm/rollback", json={"version": 1})
    started = await rig.client.put("/v1/adapters/calm/canary", json={"version": 2, "percent": 99})
    assert started.status_code == 200
    versions = set()
    for number in range(8):
        await rig.client.post(
            "/v1/completions",
            json={"model": BASE, "prompt": "x", "adapters": [{"name": "poet@1"}, {"name": "calm"}]},
            headers={"x-headmix-canary-key": f"user-{number}"},
        )
        versions.add(tuple(version for _, version, _ in names(rig.engine.of(Generate)[-1])))
    assert (1, 2) in versions
    assert versions <= {(1, 1), (1, 2)}


async def test_an_adapter_named_twice_counts_once_with_the_sum_of_its_scales(rig: ApiRig) -> None:
    adapters = [{"name": "poet", "scale": 0.5}, {"name": "brief"}, {"name": "poet@1", "scale": 0.25}]
    response = await ask(rig, "/v1/completions", adapters)
    assert names(rig.engine.of(Generate)[0]) == [("poet", 1, 0.75), ("brief", 1, 1.0)]
    assert len(response.headers["x-headmix-adapters"].split(", ")) == 2


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("adapters", "param"),
    [
        ([{"name": "poet", "scale": 10.5}], "adapters.0.scale"),
        ([{"name": "poet"}, {"name": "brief", "scale": -11}], "adapters.1.scale"),
        ([{"name": "poet", "scale": "1"}], "adapters.0.scale"),
        ([{"name": "poet", "scale": True}], "adapters.0.scale"),
        ([{"scale": 1}], "adapters.0.name"),
        ([{"name": "poet"}] * 5, "adapters"),
        ("poet", "adapters"),
    ],
)
async def test_a_list_of_another_form_is_refused_by_name(rig: ApiRig, route: str, adapters: object, param: str) -> None:
    assert await refusal(rig, route, adapters) == (400, "invalid_request_error", param)


@pytest.mark.parametrize("scale", ["NaN", "Infinity", "1e999"])
async def test_a_scale_is_a_finite_number(rig: ApiRig, scale: str) -> None:
    body = f'{{"model": "{BASE}", "prompt": "x", "adapters": [{{"name": "poet", "scale": {scale}}}]}}'
    response = await rig.client.post(
        "/v1/completions", content=body.encode(), headers={"content-type": "application/json"}
    )
    assert response.status_code == 400
    assert not requests_of(rig)


async def test_an_unknown_field_of_an_adapter_is_refused_by_its_path(rig: ApiRig) -> None:
    adapters = [{"name": "poet", "weight": 0.5}]
    assert await refusal(rig, "/v1/completions", adapters) == (400, "unsupported_parameter", "adapters.0.weight")


@pytest.mark.parametrize("route", GENERATES)
@pytest.mark.parametrize("adapters", [["mood", "poet"], ["poet", "mood"]])
async def test_a_classifier_adds_to_no_generation(rig: ApiRig, route: str, adapters: list[str]) -> None:
    given = [{"name": name} for name in adapters]
    assert await refusal(rig, route, given) == (400, "task_mismatch", "adapters")


async def test_the_first_classifies_with_its_head_and_others_may_be_of_any_task(rig: ApiRig) -> None:
    rig.publish("spam", labels=("ham", "spam"))
    response = await ask(rig, "/v1/classify", [{"name": "spam"}, {"name": "poet"}, {"name": "mood"}])
    assert response.json()["data"][0]["label"] in ("ham", "spam")
    adapters = [{"name": "poet"}, {"name": "mood"}]
    assert await refusal(rig, "/v1/classify", adapters) == (400, "task_mismatch", "adapters")


@pytest.mark.parametrize("route", ROUTES)
async def test_only_the_first_may_add_tokens(rig: ApiRig, route: str) -> None:
    rig.publish("odd", added_tokens=("<a>",), labels=("x", "y") if route == "/v1/classify" else ())
    assert (await ask(rig, route, [{"name": "odd"}, {"name": "brief"}])).status_code == 200
    assert rig.state.base.shape.vocab_size not in requests_of(rig)[-1].prompt
    text = {"prompt": "<a>"} if route == "/v1/completions" else {"input": "<a>"}
    if route != "/v1/chat/completions":
        await ask(rig, route, [{"name": "odd"}, {"name": "brief"}], **text)
        assert rig.state.base.shape.vocab_size in requests_of(rig)[-1].prompt
    adapters = [{"name": first_of(route)}, {"name": "odd"}]
    assert await refusal(rig, route, adapters) == (400, "invalid_request_error", "adapters")


async def test_more_than_the_device_has_slots_for_are_refused(rig: ApiRig, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = rig.state.engine.ready
    assert ready is not None
    assert ready.adapter_slots == 4
    four = [{"name": name} for name in ("poet", "brief", "calm", "long")]
    assert (await ask(rig, "/v1/completions", four)).status_code == 200
    monkeypatch.setattr(rig.state.engine, "ready", type(ready)(**{**_fields(ready), "adapter_slots": 3}))
    assert await refusal(rig, "/v1/completions", four) == (400, "invalid_request_error", "adapters")


def _fields(ready: Any) -> Json:
    return {name: getattr(ready, name) for name in ready.__struct_fields__}


async def logged(lines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the request's line, which is written after the response's last byte."""
    async with asyncio.timeout(10):
        while not (found := [line for line in lines if line["event"] == "request"]):  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.001)
    (line,) = found
    return line


@pytest.mark.parametrize("stream", [False, True])
async def test_headers_log_and_usage_name_the_first_and_list_all(rig: ApiRig, stream: bool) -> None:
    versions = {name: rig.state.library.catalog.resolve(TENANT, name) for name in ("poet", "brief")}
    with structlog.testing.capture_logs() as lines:
        response = await ask(
            rig, "/v1/completions", [{"name": "poet", "scale": 0.7}, {"name": "brief", "scale": 0.3}], stream=stream
        )
        line = await logged(lines)
    told = [f"poet@1 {versions['poet'].digest} 0.7", f"brief@1 {versions['brief'].digest} 0.3"]
    assert response.headers["x-headmix-adapter"] == f"poet@1 {versions['poet'].digest}"
    assert response.headers["x-headmix-adapters"] == ", ".join(told)
    assert (line["adapter"], line["digest"], line["adapters"]) == ("poet", versions["poet"].digest, told)
    usage = await rig.client.get("/v1/usage?group_by=model", headers=rig.key(Scope.ADMIN))
    assert [entry["model"] for entry in usage.json()["data"]] == ["poet"]


async def test_a_log_line_without_a_list_has_no_such_field(rig: ApiRig) -> None:
    with structlog.testing.capture_logs() as lines:
        await rig.client.post("/v1/completions", json={"model": "poet", "prompt": "x"})
        line = await logged(lines)
    assert "adapters" not in line


async def test_all_are_held_until_the_request_has_ended(rig: ApiRig) -> None:
    rig.engine.answering = False
    asked = asyncio.create_task(ask(rig, "/v1/completions", [{"name": "poet"}, {"name": "brief"}], max_tokens=1))
    (message,) = await rig.engine.expect(Generate)
    digests = {one.digest for one in (message.adapter, message.beside[0].adapter) if one is not None}
    assert rig.state.library.holds.digests == digests
    assert (await rig.client.delete("/v1/adapters/brief")).status_code == 200
    assert rig.state.library.store.path(message.beside[0].adapter.digest).exists()
    rig.engine.answering = True
    rig.says("x")
    for output in rig.engine.answer(message):
        await rig.engine.send(output)
    assert (await asked).status_code == 200
    async with asyncio.timeout(10):
        while rig.state.library.holds.digests:  # noqa: ASYNC110 - a request's cleanup signals nothing
            await asyncio.sleep(0.001)
