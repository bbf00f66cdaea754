import re
from typing import Any

import pytest
import structlog

from harness.server.api_rig import BASE, ApiRig


async def log_of(rig: ApiRig, **request: Any) -> tuple[list[Any], Any]:
    with structlog.testing.capture_logs() as lines:
        response = await rig.client.post("/v1/completions", **request)
    return [line for line in lines if line["event"] == "request"], response


@pytest.mark.parametrize("given", ["abc-1.2_X", "a" * 64])
async def test_a_harmless_request_id_comes_back(rig: ApiRig, given: str) -> None:
    response = await rig.client.get("/healthz", headers={"x-request-id": given})
    assert response.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "a" * 65, 'x"y', "é".encode().decode("latin-1")])
async def test_any_other_request_id_is_replaced(rig: ApiRig, given: str) -> None:
    response = await rig.client.get("/healthz", headers={b"x-request-id": given.encode("latin-1")})
    assert re.fullmatch(r"req_[0-9a-f]{24}", response.headers["x-request-id"])


async def test_one_line_tells_who_asked_what_of_which_adapter_and_how_it_ended(rig: ApiRig) -> None:
    version = rig.publish("tone")
    rig.says("The fox")
    lines, _ = await log_of(
        rig, json={"model": "tone", "prompt": "Hello", "max_tokens": 2}, headers={"x-request-id": "mine"}
    )
    (line,) = lines
    expected = {
        "request_id": "mine",
        "tenant": "tenant",
        "method": "POST",
        "route": "/v1/completions",
        "status": 200,
        "outcome": "ok",
        "adapter": "tone",
        "digest": version.digest,
        "prompt_tokens": len(rig.encode("Hello")),
        "generation_tokens": 2,
    }
    assert {name: line[name] for name in expected} == expected


async def test_neither_texts_nor_keys_are_logged(rig: ApiRig) -> None:
    rig.says("the answer")
    with structlog.testing.capture_logs() as lines:
        await rig.client.post("/v1/completions", json={"model": BASE, "prompt": "the question"})
        await rig.client.post("/v1/completions", json={"model": "the question", "prompt": 5})
        await rig.client.get("/v1/the question")
    text = str([line for line in lines if line.get("part") == "api"])
    assert lines
    assert "the answer" not in text
    assert "the question" not in text
    assert all(key not in text for key in rig.keys.values())


async def test_an_error_is_an_outcome_by_its_code(rig: ApiRig) -> None:
    lines, _ = await log_of(rig, json={"model": "none", "prompt": "x"})
    assert (lines[0]["status"], lines[0]["outcome"], lines[0]["adapter"]) == (404, "model_not_found", None)
    lines, _ = await log_of(rig, content=b"{", headers={"content-type": "application/json"})
    assert (lines[0]["status"], lines[0]["outcome"]) == (400, "invalid_request_error")


async def test_the_line_names_the_refused_parameter_if_it_looks_like_a_name(rig: ApiRig) -> None:
    for body, param in (
        ({"tools": [1]}, "tools"),
        ({"temperature": 9}, "temperature"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"stop": ["a", 1]}, "stop.1"),
        ({"n": 99}, "n"),
        ({"what the client thinks": 1}, "?"),
        ({"model": "none"}, "model"),
        ({}, None),
    ):
        lines, _ = await log_of(rig, json={"model": BASE, "prompt": "x", **body})
        assert lines[0]["param"] == param
