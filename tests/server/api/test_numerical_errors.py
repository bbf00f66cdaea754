"""A non-finite result reaches clients as an error with the adapter's name, on every route, streamed or not."""

from collections.abc import Callable
from typing import Any

import pytest

from harness.server.api_rig import BASE, ApiRig
from harness.server.fake_engine import generated
from headmix_server.core.messages import Classify, Embed, Failed, Generate, Output, ToEngine
from headmix_server.core.types import TokenCounts
from headmix_server.tenancy.keys.principal import Scope
from tests.support.sse import events

MESSAGE = "Adapter 'huge@1': the result is not finite (NaN or infinity)."
ERROR = {"error": {"message": MESSAGE, "type": "server_error", "param": None, "code": "numerical_error"}}

Body = dict[str, Any]
ROUTES: dict[str, tuple[str, Body]] = {
    "completion": ("/v1/completions", {"prompt": "Hello", "max_tokens": 4}),
    "completions": ("/v1/completions", {"prompt": ["Hello", "world"], "n": 2, "max_tokens": 4}),
    "scored prompt": ("/v1/completions", {"prompt": "Hello", "echo": True, "logprobs": 2, "max_tokens": 4}),
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "logprobs": True}),
    "classification": ("/v1/classify", {"input": ["Hello", "world"]}),
    "embedding": ("/v1/embeddings", {"input": "Hello"}),
    "embedding in base64": ("/v1/embeddings", {"input": ["Hello", "world"], "encoding_format": "base64"}),
}
STREAMS = [name for name in ROUTES if name.startswith(("completion", "chat"))]


@pytest.fixture
def huge(rig: ApiRig) -> Callable[[str], None]:
    """Publish the adapter in the form a route needs."""

    def publish(route: str) -> None:
        rig.publish("huge", labels=("a", "b") if route == "classification" else ())

    return publish


def failing(tokens: int) -> Callable[[ToEngine], list[Output]]:
    """Answer every choice with `tokens` tokens and then the error, and every text with only the error."""

    def answer(message: ToEngine) -> list[Output]:
        if not isinstance(message, Generate | Classify | Embed):
            return []
        counts = TokenCounts(prompt=len(message.prompt))
        failure = Failed(request_id=message.request_id, code="numerical_error", message=MESSAGE, counts=counts)
        if not isinstance(message, Generate):
            return [failure]
        return [*generated(message, [5, 6, 7])[:tokens], failure]

    return answer


@pytest.mark.parametrize("route", ROUTES)
async def test_the_response_is_a_500_that_names_the_adapter(
    rig: ApiRig, huge: Callable[[str], None], route: str
) -> None:
    huge(route)
    rig.engine.answer = failing(tokens=2)
    path, body = ROUTES[route]
    response = await rig.client.post(path, json={"model": "huge", **body})
    assert (response.status_code, response.json()) == (500, ERROR)
    assert response.headers["x-should-retry"] == "false"  # retrying gives the same error
    assert "retry-after" not in response.headers
    metrics = (await rig.client.get("/metrics", headers=rig.key(Scope.METRICS))).text
    assert (
        f'headmix_requests_total{{adapter="huge",outcome="numerical_error",route="{path}",tenant="tenant"}} 1.0'
        in metrics
    )


@pytest.mark.parametrize("route", STREAMS)
async def test_a_stream_that_has_not_begun_is_the_same_500(
    rig: ApiRig, huge: Callable[[str], None], route: str
) -> None:
    huge(route)
    rig.engine.answer = failing(tokens=0)
    path, body = ROUTES[route]
    response = await rig.client.post(path, json={"model": "huge", "stream": True, **body})
    assert (response.status_code, response.json()) == (500, ERROR)


@pytest.mark.parametrize("route", STREAMS)
async def test_a_stream_that_has_begun_ends_in_the_error_and_not_in_done(
    rig: ApiRig, huge: Callable[[str], None], route: str
) -> None:
    huge(route)
    rig.engine.answer = failing(tokens=2)
    path, body = ROUTES[route]
    response = await rig.client.post(path, json={"model": "huge", "stream": True, **body})
    assert response.status_code == 200
    *before, last = events(response.text)
    assert last == ERROR
    assert before
    assert all("error" not in event for event in before)


async def test_the_prompt_was_read_and_counts_as_used(rig: ApiRig, huge: Callable[[str], None]) -> None:
    huge("completion")
    rig.engine.answer = failing(tokens=0)
    await rig.client.post("/v1/completions", json={"model": "huge", "prompt": [5] * 30, "max_tokens": 4})
    metrics = (await rig.client.get("/metrics", headers=rig.key(Scope.METRICS))).text
    assert 'headmix_prompt_tokens_total{adapter="huge",tenant="tenant"} 30.0' in metrics


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"temperature": 1e-38}, "temperature"),
        ({"temperature": 9.9e-9}, "temperature"),
        ({"temperature": 5e-324}, "temperature"),
        ({"repetition_penalty": 1e-38}, "repetition_penalty"),
        ({"repetition_penalty": 0.0099}, "repetition_penalty"),
        ({"repetition_penalty": 1e38}, "repetition_penalty"),
        ({"presence_penalty": 1e38}, "presence_penalty"),
        ({"frequency_penalty": -1e38}, "frequency_penalty"),
        ({"top_p": -1e-38}, "top_p"),
        ({"min_p": 1e38}, "min_p"),
    ],
)
@pytest.mark.parametrize("route", ["completion", "chat"])
async def test_a_parameter_that_cannot_be_computed_with_is_named(
    rig: ApiRig, route: str, params: Body, param: str
) -> None:
    path, body = ROUTES[route]
    response = await rig.client.post(path, json={"model": BASE, **body, **params})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "invalid_request_error", param)
    assert rig.engine.of(Generate) == []


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 0},
        {"temperature": -0.0},
        {"temperature": 1e-8},
        {"temperature": 2},
        {"repetition_penalty": 0.01},
        {"repetition_penalty": 10},
        {"top_p": 1e-38},
        {"min_p": 1e-38},
    ],
)
async def test_the_least_and_the_largest_values_are_taken(rig: ApiRig, params: Body) -> None:
    rig.says("yes")
    response = await rig.client.post("/v1/completions", json={"model": BASE, "prompt": "x", **params})
    assert response.status_code == 200, response.text
