"""A malformed body is refused with the parameter's name; unknown or neutral values are not refused."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from harness.server.api_rig import BASE, ApiRig, api_rig

COMPLETIONS, CHAT, CLASSIFY = "/v1/completions", "/v1/chat/completions", "/v1/classify"
MESSAGES = [{"role": "user", "content": "x"}]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiRig]:
    async with api_rig(base_folder, tmp_path_factory.mktemp("bodies")) as running:
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


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"n": 9, "prompt": ["x", "y"]}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": [1]}, "stop.0"),
        ({"stop_token_ids": [-1]}, "stop_token_ids.0"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [""]}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [10**6]}, "prompt"),
        ({"prompt": ["x", 1]}, "prompt"),
        ({"prompt": {"text": "x"}}, "prompt"),
        ({"model": 3}, "model"),
        ({"top_k": 2**63}, "top_k"),
        ({"max_tokens": 2**63}, "max_tokens"),
        ({"n": 2**63}, "n"),
        ({"stop_token_ids": [2**63]}, "stop_token_ids.0"),
    ],
)
async def test_a_malformed_parameter_is_named(rig: ApiRig, params: dict[str, Any], param: str) -> None:
    response = await rig.client.post(COMPLETIONS, json=completion(**params))
    body = response.json()["error"]
    assert (response.status_code, body["code"], body["type"]) == (400, "invalid_request_error", "invalid_request_error")
    assert (body["param"] or "").startswith(param), body
    assert rig.engine.received == []


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"messages": []}, "messages"),
        (CHAT, {"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        (CHAT, {"messages": [{"role": "user"}]}, "messages.0.content"),
        (CHAT, {"messages": MESSAGES, "max_tokens": 0}, "max_tokens"),
        (CHAT, {"messages": MESSAGES, "top_logprobs": 3}, "top_logprobs"),
        (CHAT, {}, "messages"),
        (CLASSIFY, {"input": []}, "input"),
        (CLASSIFY, {"input": [""]}, "input"),
        (CLASSIFY, {"input": ["x", 1]}, "input.1"),
        (CLASSIFY, {"input": [-1]}, "input.0"),
        (CLASSIFY, {"input": 1}, "input"),
        (CLASSIFY, {"input": ["x"] * 257}, "input"),
        (CLASSIFY, {}, "input"),
        ("/v1/adapters/classifier/rollback", {"version": "1"}, "version"),
        ("/v1/adapters/classifier/rollback", {"version": 0}, "version"),
        ("/v1/adapters/classifier/rollback", {}, "version"),
    ],
)
async def test_malformed_bodies_of_the_other_routes_are_named_too(
    rig: ApiRig, path: str, body: dict[str, Any], param: str
) -> None:
    rig.publish("classifier", labels=("a", "b"))
    model = {} if "rollback" in path else {"model": "classifier" if path == CLASSIFY else BASE}
    response = await rig.client.post(path, json={**model, **body})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request_error")
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("path", "params"),
    [
        (CHAT, {"best_of": 3}),
        (COMPLETIONS, {"suffix": "end"}),
        (COMPLETIONS, {"use_beam_search": True}),
        (CHAT, {"functions": [{}]}),
        (COMPLETIONS, {"prompt_logprobs": 3}),
        (CHAT, {"modalities": ["text", "audio"]}),
        (CHAT, {"reasoning_effort": "high"}),
        (CHAT, {"temprature": 0.5}),
        (CLASSIFY, {"truncation_side": "left"}),
    ],
)
async def test_a_parameter_that_would_change_the_output_is_refused_not_ignored(
    rig: ApiRig, path: str, params: dict[str, Any]
) -> None:
    bodies: dict[str, dict[str, Any]] = {
        COMPLETIONS: {"prompt": "x"},
        CHAT: {"messages": MESSAGES},
        CLASSIFY: {"input": "x"},
    }
    body = bodies[path]
    response = await rig.client.post(path, json={"model": BASE, **body, **params})
    (name,) = params
    found = response.json()["error"]
    assert (response.status_code, found["code"], found["param"]) == (400, "unsupported_parameter", name)
    assert found["message"].startswith(f"The parameter {name!r} is not supported")


async def test_an_unknown_parameter_is_named_plainly_and_its_name_cut_short(rig: ApiRig) -> None:
    response = await rig.client.post(COMPLETIONS, json=completion(temprature=0.5))
    told = "The parameter 'temprature' is not supported."
    assert response.json() == error(told, "unsupported_parameter", param="temprature")
    long = (await rig.client.post(COMPLETIONS, json=completion(**{"x" * 100_000: 1}))).json()["error"]
    assert len(str(long)) < 400


async def test_unsupported_content_of_a_message_is_refused_at_its_place(rig: ApiRig) -> None:
    image = {"type": "image_url", "image_url": {"url": "x"}}
    response = await rig.client.post(CHAT, json={"model": BASE, "messages": [{"role": "user", "content": [image]}]})
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("messages.0.content")


@pytest.mark.parametrize(
    ("path", "params"),
    [
        (COMPLETIONS, {"best_of": 1, "suffix": None, "logit_bias": {}, "user": "u", "metadata": {"a": "b"}}),
        (COMPLETIONS, {"store": True, "service_tier": "auto", "stream_options": {"include_usage": True}}),
        (CHAT, {"tools": None, "tool_choice": "none", "response_format": {"type": "text"}, "modalities": ["text"]}),
        (CHAT, {"parallel_tool_calls": True, "store": False, "metadata": {}, "user": "u", "logit_bias": None}),
        (CHAT, {"safety_identifier": "s", "prompt_cache_key": "p", "service_tier": None}),
    ],
)
async def test_bookkeeping_and_neutral_values_are_accepted(rig: ApiRig, path: str, params: dict[str, Any]) -> None:
    body = {"prompt": "x"} if path == COMPLETIONS else {"messages": MESSAGES}
    response = await rig.client.post(path, json={"model": BASE, **body, **params})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b'{"model": "m", "prompt": "\\ud800"}', b"[" * 100_000]
)
async def test_a_body_that_is_not_an_object_is_a_bad_request(rig: ApiRig, content: bytes) -> None:
    response = await rig.client.post(COMPLETIONS, content=content, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request_error")


async def test_half_a_character_is_refused_wherever_text_is_taken(rig: ApiRig) -> None:
    rig.publish("classifier", labels=("a", "b"))
    half = '"\\ud83d"'
    for path, content in (
        (COMPLETIONS, f'{{"model": "{BASE}", "prompt": [{half}]}}'),
        (COMPLETIONS, f'{{"model": "{BASE}", "prompt": "x", "stop": {half}}}'),
        (CHAT, f'{{"model": "{BASE}", "messages": [{{"role": "user", "content": {half}}}]}}'),
        (CLASSIFY, f'{{"model": "classifier", "input": {half}}}'),
    ):
        response = await rig.client.post(path, content=content, headers={"content-type": "application/json"})
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request_error")
        assert "surrogate" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        rb'{"model": "tiny-base", "prompt": "x", "\ud800": 1}',
        rb'{"model": "\ud800", "prompt": "x"}',
        rb'{"model": "tiny-base", "prompt": "x", "stream_options": {"\udfff": 1}}',
        rb'{"model": "tiny-base", "prompt": "x", "response_format": {"type": "\ud800"}}',
    ],
)
async def test_an_error_that_quotes_half_of_a_surrogate_pair_can_be_sent(rig: ApiRig, body: bytes) -> None:
    response = await rig.client.post(COMPLETIONS, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in {400, 404}, response.text


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
async def test_numbers_that_are_not_finite_are_refused(rig: ApiRig, number: str) -> None:
    content = f'{{"model": "{BASE}", "prompt": "x", "temperature": {number}}}'
    response = await rig.client.post(COMPLETIONS, content=content, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "temperature")
