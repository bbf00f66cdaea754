"""Every row of the error table: the exact status, code and body."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from harness.server.api_rig import BASE, ApiRig, api_rig
from headmix_server.api.middleware.error_responses import INTERNAL_MESSAGE
from headmix_server.core.messages import Failed, Generate
from headmix_server.tenancy.keys.principal import Scope

COMPLETIONS, CHAT, CLASSIFY = "/v1/completions", "/v1/chat/completions", "/v1/classify"
MESSAGES = [{"role": "user", "content": "x"}]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiRig]:
    async with api_rig(base_folder, tmp_path_factory.mktemp("errors")) as running:
        yield running


@pytest.fixture
def rig(server: ApiRig) -> ApiRig:
    """One server for all tests here, since refused requests change nothing."""
    server.engine.received.clear()
    return server


def error(message: str, code: str, *, kind: str = "invalid_request_error", param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def completion(**params: Any) -> dict[str, Any]:
    return {"model": BASE, "prompt": "x", **params}


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer wrong", "Basic hm_x", "Bearer hm_" + "A" * 43, "hm_x"])
async def test_no_key_or_a_bad_one_is_401(rig: ApiRig, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    async with httpx2.AsyncClient(base_url=rig.url, headers=headers) as stranger:
        responses = [
            await stranger.post(COMPLETIONS, json=completion()),
            await stranger.post(CHAT, json={}),
            await stranger.post(CLASSIFY, json={}),
            await stranger.get("/v1/models"),
            await stranger.post("/v1/adapters"),
            await stranger.delete("/v1/adapters/x"),
        ]
    for response in responses:
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        body = response.json()["error"]
        assert (body["code"], body["type"], body["param"]) == ("invalid_api_key", "authentication_error", None)


async def test_a_key_without_the_scope_is_403(rig: ApiRig) -> None:
    reader, publisher = rig.key(Scope.INFERENCE), rig.key(Scope.ADAPTERS)
    forbidden = error("This key lacks the scope 'adapters'.", "forbidden", kind="permission_error")
    for method, path in (
        ("POST", ""),
        ("DELETE", "/x"),
        ("POST", "/x/rollback"),
        ("POST", "/x/load"),
        ("GET", "/x/file"),
    ):
        response = await rig.client.request(method, f"/v1/adapters{path}", headers=reader)
        assert (response.status_code, response.json()) == (403, forbidden)
    for path in (COMPLETIONS, CHAT, CLASSIFY):
        body = {"model": BASE, "prompt": "x"} if path == COMPLETIONS else {}
        response = await rig.client.post(path, json=body, headers=publisher)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")
    assert (await rig.client.get("/v1/models", headers=publisher)).status_code == 200
    assert (await rig.client.get("/v1/adapters", headers=reader)).status_code == 200


async def test_switched_off_keys_let_everyone_in_as_the_default_tenant(base_folder: Path, tmp_path: Path) -> None:
    async with api_rig(base_folder, tmp_path, settings={"keys": "off"}) as rig:
        async with httpx2.AsyncClient(base_url=rig.url) as stranger:
            assert (await stranger.post(COMPLETIONS, json=completion())).status_code == 200
        assert rig.engine.of(Generate)[0].tenant == "default"


@pytest.mark.parametrize(
    "model", ["theirs@2", "tone@0", "tone@9", "Tone", "../tone", "tone@", "\u0000", "x" * 5000, ""]
)
async def test_a_malformed_name_is_not_found_like_any_unknown_one(rig: ApiRig, model: str) -> None:
    rig.publish("tone")
    response = await rig.client.post(COMPLETIONS, json=completion(model=model))
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    assert response.json()["error"]["param"] == "model"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (COMPLETIONS, {"model": "classifier", "prompt": "x"}),
        (CHAT, {"model": "classifier", "messages": MESSAGES}),
        (CLASSIFY, {"model": "writer", "input": "x"}),
        (CLASSIFY, {"model": BASE, "input": "x"}),
    ],
)
async def test_the_wrong_task_is_refused_before_the_engine_is_asked(
    rig: ApiRig, path: str, body: dict[str, Any]
) -> None:
    rig.publish("classifier", labels=("a", "b"))
    rig.publish("writer")
    response = await rig.client.post(path, json=body)
    assert response.status_code == 400
    assert (response.json()["error"]["code"], response.json()["error"]["param"]) == ("task_mismatch", "model")
    assert rig.engine.received == []


async def test_too_long_states_the_numbers(rig: ApiRig) -> None:
    asked = "260 were requested: 10 in the prompt and 250 for the completion."
    response = await rig.client.post(COMPLETIONS, json=completion(prompt=[5] * 10, max_tokens=250))
    assert response.status_code == 400
    assert response.json() == error(
        f"This model's context length is 256 tokens, but {asked}", "context_length_exceeded", param="prompt"
    )
    fits = await rig.client.post(COMPLETIONS, json=completion(prompt=[5] * 10, max_tokens=246))
    assert fits.status_code == 200
    rig.publish("classifier", labels=("a", "b"))
    for path, body, param in (
        (CHAT, {"model": BASE, "messages": [{"role": "user", "content": "x " * 400}]}, "messages"),
        (CLASSIFY, {"model": "classifier", "input": "x " * 400}, "input"),
    ):
        found = (await rig.client.post(path, json=body)).json()["error"]
        assert (found["code"], found["param"]) == ("context_length_exceeded", param)


async def test_a_body_above_the_limit_is_413_declared_or_not(base_folder: Path, tmp_path: Path) -> None:
    async with api_rig(base_folder, tmp_path, settings={"max_body_mib": 1}) as rig:

        async def undeclared() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b" " * 700_000

        # The client chooses the content type: it must not be a way around the limit.
        for kind in ("application/json", "multipart/form-data; boundary=b"):
            for content in (b" " * (2 << 20), undeclared()):
                response = await rig.client.post(COMPLETIONS, content=content, headers={"content-type": kind})
                assert response.status_code == 413
                assert response.json() == error("The body is larger than the limit of 1 MiB.", "payload_too_large")


async def test_a_body_without_its_content_type_gets_an_error_that_says_what_is_missing(rig: ApiRig) -> None:
    response = await rig.client.post(COMPLETIONS, content=b'{"model": "m"}', headers={"content-type": "text/plain"})
    told = "The body must be a JSON object, sent with the content type application/json."
    assert (response.status_code, response.json()) == (400, error(told, "invalid_request_error"))


async def test_a_full_queue_is_503_and_says_when_to_come_back(base_folder: Path, tmp_path: Path) -> None:
    async with api_rig(base_folder, tmp_path, settings={"max_running": 1, "max_waiting": 1}) as rig:
        rig.engine.answering = False
        open_requests = [asyncio.create_task(rig.client.post(COMPLETIONS, json=completion())) for _ in range(2)]
        await rig.engine.expect(Generate, 2)
        for stream in (False, True):
            response = await rig.client.post(COMPLETIONS, json=completion(stream=stream))
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")
            assert response.json() == error("Too many requests are waiting.", "server_overloaded", kind="server_error")
        for task in open_requests:
            task.cancel()
        await asyncio.gather(*open_requests, return_exceptions=True)
        await rig.engine.aborted()


@pytest.mark.parametrize(
    ("code", "status", "retry"),
    [("server_overloaded", 503, "1"), ("engine_unavailable", 503, "2")],
)
async def test_what_the_engine_cannot_take_now_says_when_to_come_back(
    rig: ApiRig, monkeypatch: pytest.MonkeyPatch, code: str, status: int, retry: str
) -> None:
    def refuse(message: object) -> list[Failed]:
        assert isinstance(message, Generate)
        return [Failed(request_id=message.request_id, code=code, message="later")]

    monkeypatch.setattr(rig.engine, "answer", refuse)
    response = await rig.client.post(COMPLETIONS, json=completion())
    assert (response.status_code, response.headers["retry-after"]) == (status, retry)
    assert (response.json()["error"]["code"], response.json()["error"]["message"]) == (code, "later")


async def test_a_draining_server_is_503(base_folder: Path, tmp_path: Path) -> None:
    async with api_rig(base_folder, tmp_path) as rig:
        rig.state.engine.drain()
        response = await rig.client.post(COMPLETIONS, json=completion())
    assert (response.status_code, response.json()["error"]["code"]) == (503, "server_overloaded")
    assert response.headers["retry-after"] == "2"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/v2/models"), ("POST", "/v1/images"), ("POST", "/v1/completions/")]
)
async def test_an_unknown_route_gets_an_error_of_the_same_shape(rig: ApiRig, method: str, path: str) -> None:
    response = await rig.client.request(method, path)
    assert response.status_code == 404
    assert response.json() == error(f"{method} {path} is not a route of this server.", "not_found")


async def test_an_unknown_method_gets_an_error_of_the_same_shape(rig: ApiRig) -> None:
    response = await rig.client.put(COMPLETIONS, json={})
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json()["error"]["code"] == "method_not_allowed"


async def test_a_bug_is_500_and_the_client_gets_only_the_request_id(
    rig: ApiRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the secret of line 7")

    monkeypatch.setattr("headmix_server.catalog.rollout.sharing.Sharing.visible", broken)
    response = await rig.client.get("/v1/models", headers={"x-request-id": "mine"})
    assert (response.status_code, response.headers["x-request-id"]) == (500, "mine")
    assert response.json() == error(INTERNAL_MESSAGE, "internal_error", kind="server_error")
