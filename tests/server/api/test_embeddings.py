import asyncio
import base64
import struct
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.server.api_rig import BASE, ApiRig, api_rig
from headmix_server.core.messages import Abort, Embed, Embedded, Failed, ToEngine
from headmix_server.core.types import EmbeddingParams

URL = "/v1/embeddings"
VECTOR = [0.5, -0.25, 2.0]


@pytest.fixture
async def encoder(base_folder: Path, tmp_path: Path) -> AsyncIterator[ApiRig]:
    async with api_rig(base_folder, tmp_path, shape={"model_type": "bert"}) as running:
        yield running


async def ask(rig: ApiRig, given: Any = "Hello", model: str = BASE, **more: Any) -> dict[str, Any]:
    response = await rig.client.post(URL, json={"model": model, "input": given, **more})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_a_text_gets_its_vector_and_the_tokens_are_counted(rig: ApiRig) -> None:
    rig.engine.vector = VECTOR
    answer = await ask(rig)
    tokens = len(rig.state.tokenizer.encode("Hello"))
    assert answer == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": VECTOR}],
        "model": BASE,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    assert rig.engine.of(Embed)[0].adapter is None


async def test_an_adapter_embeds_under_its_own_name_whatever_its_task(rig: ApiRig) -> None:
    for name, labels in (("style", ()), ("tone", ("a", "b"))):
        version = rig.publish(name, labels=labels)
        response = await rig.client.post(URL, json={"model": name, "input": "Hello"})
        assert response.headers["x-headmix-adapter"] == f"{name}@1 {version.digest}"
        assert rig.engine.of(Embed)[-1].adapter == rig.state.library.ref(version)


@pytest.mark.parametrize(
    ("given", "prompts"),
    [
        (["The", "fox"], ["The", "fox"]),
        ([5, 6, 7], [[5, 6, 7]]),
        ([[5, 6], [7]], [[5, 6], [7]]),
    ],
    ids=["texts", "token ids", "lists of token ids"],
)
async def test_every_form_of_input_is_taken(rig: ApiRig, given: Any, prompts: list[str | list[int]]) -> None:
    answer = await ask(rig, given)
    expected = [rig.state.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt for prompt in prompts]
    assert sorted(message.prompt for message in rig.engine.of(Embed)) == sorted(expected)
    assert [entry["index"] for entry in answer["data"]] == list(range(len(expected)))


async def test_vectors_come_back_in_the_order_of_their_texts(rig: ApiRig) -> None:
    rig.engine.answering = False
    task = asyncio.create_task(ask(rig, ["The quick", "brown fox", "jumps"]))
    requests = await rig.engine.expect(Embed, 3)
    for request in reversed(requests):
        place = float(request.request_id.rpartition("-")[2])
        await rig.engine.send(Embedded(request_id=request.request_id, vector=[place]))
    assert [entry["embedding"] for entry in (await task)["data"]] == [[0.0], [1.0], [2.0]]


async def test_base64_holds_the_same_numbers(rig: ApiRig) -> None:
    rig.engine.vector = VECTOR
    answer = await ask(rig, encoding_format="base64")
    assert list(struct.unpack("<3f", base64.b64decode(answer["data"][0]["embedding"]))) == VECTOR


@pytest.mark.parametrize(
    ("asked", "decoder", "encoder_"),
    [
        ({}, ("last", True), ("mean", True)),
        ({"pooling": "cls"}, ("cls", True), ("cls", True)),
        ({"pooling": "mean", "normalize": False}, ("mean", False), ("mean", False)),
        ({"pooling": None, "normalize": None}, ("last", True), ("mean", True)),
    ],
)
async def test_pooling_follows_the_base_unless_asked_for(
    rig: ApiRig, encoder: ApiRig, asked: Mapping[str, Any], decoder: tuple[Any, bool], encoder_: tuple[Any, bool]
) -> None:
    for server, (pooling, normalize) in ((rig, decoder), (encoder, encoder_)):
        await ask(server, **asked)
        assert server.engine.of(Embed)[-1].params == EmbeddingParams(pooling=pooling, normalize=normalize)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"dimensions": 8}, "unsupported_parameter", "dimensions"),
        ({"encoding_format": "int8"}, "invalid_request_error", "encoding_format"),
        ({"pooling": "max"}, "invalid_request_error", "pooling"),
        ({"input": ""}, "invalid_request_error", "input"),
        ({"input": []}, "invalid_request_error", "input"),
        ({"input": [[]]}, "invalid_request_error", "input"),
        ({"input": [10**6]}, "invalid_request_error", "input"),
        ({"input": ["a"] * 5}, "invalid_request_error", "input"),
        ({"input": [5] * 257}, "context_length_exceeded", "input"),
    ],
)
async def test_invalid_and_unsupported_parameters_are_refused_by_name(
    base_folder: Path, tmp_path: Path, body: dict[str, Any], code: str, param: str
) -> None:
    async with api_rig(base_folder, tmp_path, settings={"max_inputs": 4}) as rig:
        response = await rig.client.post(URL, json={"model": BASE, "input": "a", **body})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, code, param)


async def test_one_text_that_fails_ends_the_others(rig: ApiRig) -> None:
    def fail_the_second(message: ToEngine) -> list[Failed]:
        if isinstance(message, Embed) and message.request_id.endswith("-1"):
            return [Failed(request_id=message.request_id, code="server_overloaded", message="the queue is full")]
        return []

    rig.engine.answer = fail_the_second
    response = await rig.client.post(URL, json={"model": BASE, "input": ["a", "b", "c"]})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "server_overloaded")
    assert {m.request_id.rpartition("-")[2] for m in await rig.engine.expect(Abort, 2)} == {"0", "2"}


async def test_a_client_that_leaves_aborts_every_text(rig: ApiRig) -> None:
    rig.engine.answering = False
    task = asyncio.create_task(rig.client.post(URL, json={"model": BASE, "input": ["a", "b"]}))
    await rig.engine.expect(Embed, 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(await rig.engine.aborted()) == 2


async def test_another_tenants_adapter_is_not_found(rig: ApiRig) -> None:
    rig.publish("secret", tenant="other")
    response = await rig.client.post(URL, json={"model": "secret", "input": "a"})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


async def test_requests_are_counted_under_the_routes_name(rig: ApiRig) -> None:
    await ask(rig)
    metrics = (await rig.client.get("/metrics")).text
    assert 'headmix_requests_total{adapter="",outcome="ok",route="/v1/embeddings",tenant="tenant"} 1.0' in metrics


async def test_an_encoder_refuses_generation_and_classifies_and_embeds(encoder: ApiRig) -> None:
    encoder.publish("tone", labels=("a", "b"))
    encoder.publish("style")
    encoder.engine.probs = [0.25, 0.75]
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    for model in (BASE, "style", "tone"):
        for path, body in (("completions", {"prompt": "Hi"}), ("chat/completions", chat)):
            response = await encoder.client.post(f"/v1/{path}", json={"model": model, **body})
            error = response.json()["error"]
            assert (response.status_code, error["code"], error["param"]) == (400, "task_mismatch", "model")
    assert (await encoder.client.post("/v1/classify", json={"model": "tone", "input": "Hi"})).status_code == 200
    await ask(encoder, model="tone")
