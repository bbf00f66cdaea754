"""`headmix serve` with a random model: answers that end fit what was asked for, in every way of asking."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import httpx2
import jsonschema_rs
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from harness.adapters.artifacts import random_artifact
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.families import FAMILIES
from harness.server.running_server import RunningServer, running_server
from headmix_adapters.base import resolve_base

pytestmark = pytest.mark.slow

SHORT = "{% for tool in tools or [] %}<tool_call>{{ tool.function.name }}{% endfor %}{{ messages[-1].content }}"
"""A chat template with tools that leaves room in a context of 256 tokens."""

WORDS = ("<yes>", "<no>")
SCHEMA = {
    "type": "object",
    "properties": {
        "color": {"enum": ["red", "green"]},
        "sizes": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["color", "sizes"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA}}


class Thing(BaseModel):
    color: Literal["red", "green"]
    ready: bool


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("structured")
    FAMILIES["gpt2"].make(folder / "gpt2")
    (folder / "gpt2" / "chat_template.jinja").write_text(SHORT, encoding="utf-8")
    base = resolve_base(str(folder / "gpt2"))
    random_artifact(folder / "a.safetensors", base.shape, MIXED_SITES[0], seed=3, added_tokens=WORDS)
    with running_server(folder, base=base.folder, runner="torch", threads=1, kv_cache_mib=16) as server:
        with talking_to(server) as client:
            file = {"file": ("a.safetensors", (folder / "a.safetensors").read_bytes())}
            assert client.post("/v1/adapters", data={"name": "poet"}, files=file).status_code == 201
        yield server


@contextmanager
def talking_to(server: RunningServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=60) as client:
        yield client


@pytest.mark.parametrize("model", ["gpt2", "poet"])
@pytest.mark.parametrize("stream", [False, True])
def test_answers_that_end_fit_their_schema(server: RunningServer, model: str, stream: bool) -> None:
    client = openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.key)
    ended = 0
    for seed in range(4):
        asked = {"model": model, "prompt": "A thing:", "max_tokens": 60, "temperature": 1.5, "seed": seed, "n": 2}
        body = {**asked, "extra_body": {"response_format": FORMAT}}
        if stream:
            texts = {0: "", 1: ""}
            reasons: dict[int, str | None] = {}
            for chunk in client.completions.create(**body, stream=True):  # type: ignore[call-overload]
                for choice in chunk.choices:
                    texts[choice.index] += choice.text
                    reasons[choice.index] = choice.finish_reason or reasons.get(choice.index)
            found = [(texts[place], reasons[place]) for place in texts]
        else:
            answer = client.completions.create(**body)  # type: ignore[call-overload]
            found = [(choice.text, choice.finish_reason) for choice in answer.choices]
        for text, reason in found:
            if reason == "stop":
                ended += 1
                jsonschema_rs.validate(SCHEMA, json.loads(text))
    assert ended >= 4


def test_the_sdks_own_parser_gets_its_model(server: RunningServer) -> None:
    client = openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.key)
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "A thing?"}]
    answer = client.chat.completions.parse(
        model="gpt2",
        messages=messages,
        response_format=Thing,
        max_tokens=60,
        temperature=1.5,
        seed=1,
    )
    parsed = answer.choices[0].message.parsed
    assert isinstance(parsed, Thing)
    with client.chat.completions.stream(
        model="poet",
        messages=messages,
        response_format=Thing,
        max_tokens=60,
        seed=2,
    ) as events:
        assert isinstance(events.get_final_completion().choices[0].message.parsed, Thing)


def test_an_adapters_word_is_a_token_of_its_grammar(server: RunningServer) -> None:
    with talking_to(server) as client:
        word = resolve_base(str(server.data_dir.parent / "gpt2")).shape.vocab_size
        body = {
            "model": "poet",
            "prompt": "Is it?",
            "structured_outputs": {"choice": list(WORDS)},
            "logit_bias": {str(word): 100},
            "logprobs": 2,
        }
        answer = client.post("/v1/completions", json=body).json()["choices"][0]
        assert answer["text"] == WORDS[0]
        assert answer["finish_reason"] == "stop"
        assert answer["logprobs"]["tokens"] == [WORDS[0]]


def test_free_requests_beside_bound_ones_get_the_tokens_they_get_alone(server: RunningServer) -> None:
    with talking_to(server) as client:
        free = {"model": "gpt2", "prompt": ["Hello", "World"], "max_tokens": 20, "temperature": 1, "seed": 4}
        alone = client.post("/v1/completions", json=free).json()["choices"]
        with talking_to(server) as other:
            bound = {
                "model": "poet",
                "prompt": "x",
                "n": 8,
                "max_tokens": 40,
                "response_format": FORMAT,
                "stream": True,
            }
            with other.stream("POST", "/v1/completions", json=bound) as stream:
                next(stream.iter_lines())
                assert client.post("/v1/completions", json=free).json()["choices"] == alone


def test_least_lengths_biases_and_bad_words_are_kept(server: RunningServer) -> None:
    with talking_to(server) as client:
        body = {"model": "gpt2", "prompt": "a", "max_tokens": 30, "temperature": 1.5, "min_tokens": 30, "logprobs": 0}
        choice = client.post("/v1/completions", json=body).json()["choices"][0]
        assert len(choice["logprobs"]["tokens"]) == 30
        word = next(token for token in choice["logprobs"]["tokens"] if token.isalpha() and len(token) > 1)
        banned = {**body, "bad_words": [word], "seed": 1, "n": 4}
        for answer in client.post("/v1/completions", json=banned).json()["choices"]:
            assert word not in answer["logprobs"]["tokens"]
        forced = {**body, "logit_bias": {"70": 100}, "min_tokens": 0, "max_tokens": 3}
        tokens = client.post("/v1/completions", json=forced).json()["choices"][0]["logprobs"]["tokens"]
        assert len(set(tokens)) == 1


@pytest.mark.parametrize("model", ["gpt2", "poet"])
def test_required_calls_fit_and_are_streamed_as_they_are_answered(server: RunningServer, model: str) -> None:
    tool = {"type": "function", "function": {"name": "thing", "parameters": SCHEMA}}
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Hm?"}],
        "tools": [tool],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_tokens": 200,
        "temperature": 1.5,
    }
    client = openai.OpenAI(base_url=f"{server.base_url}/v1", api_key=server.key)
    for seed in range(4):
        whole = client.chat.completions.create(**body, seed=seed).choices[0]  # type: ignore[call-overload]
        with client.chat.completions.stream(**body, seed=seed) as events:  # type: ignore[arg-type]
            streamed = events.get_final_completion().choices[0]
        assert streamed.finish_reason == whole.finish_reason == "tool_calls"
        assert streamed.message.content == whole.message.content
        (call,) = whole.message.tool_calls
        assert [one.function.arguments for one in streamed.message.tool_calls or ()] == [call.function.arguments]
        assert call.function.name == "thing"
        jsonschema_rs.validate(SCHEMA, json.loads(call.function.arguments))
