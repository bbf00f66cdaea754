"""Large bodies are parsed by a worker: same responses as for small ones, the same limits, and nobody else waits."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from harness.server.api_rig import BASE, ApiRig, api_rig
from headmix_server.api.middleware.body.json_request import INLINE_BYTES
from headmix_server.core.messages import EngineReady, Generate
from tests.support.clocks.loop_time import loop_time

CHAT, COMPLETIONS, EMBEDDINGS, CLASSIFY = "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/classify"
RESPONSES = "/v1/responses"
READY = EngineReady(pid=1, max_model_len=8192, kv_blocks=1024, block_size=16, adapter_slots=4)
JSON = {"content-type": "application/json"}
ROOM = 8 * 1024 * 1024 - 1000
TURN = {"role": "user", "content": "x"}


@pytest.fixture
async def rig(base_folder: Path, tmp_path: Path) -> AsyncIterator[ApiRig]:
    async with api_rig(base_folder, tmp_path, ready=READY) as running:
        running.publish("spam", labels=("ham", "spam"))
        running.engine.probs, running.engine.vector = [0.5, 0.5], [1.0]
        yield running


async def send(rig: ApiRig, path: str, content: bytes) -> tuple[int, Any]:
    answer = await rig.client.post(path, content=content, headers=JSON, timeout=100)
    return answer.status_code, answer.json()


CASES: list[tuple[str, object]] = [
    (CHAT, {"model": BASE, "messages": [TURN], "max_tokens": 1}),
    (CHAT, {"model": BASE, "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}], "id": 7}]}),
    (CHAT, {"model": BASE, "messages": []}),
    (CHAT, {"model": BASE, "messages": [{"role": "nobody", "content": "x"}]}),
    (CHAT, {"model": BASE, "messages": [{"role": "tool", "content": "x"}]}),
    (CHAT, {"model": BASE, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
    (CHAT, {"messages": [TURN]}),
    (CHAT, {"model": BASE, "messages": [TURN], "n": 1000}),
    (CHAT, {"model": BASE, "messages": [TURN], "logit_bias": {"1": 2}}),
    (CHAT, {"model": "nobody", "messages": [TURN]}),
    (COMPLETIONS, {"model": BASE, "prompt": "x", "temperature": 3}),
    (COMPLETIONS, {"model": BASE, "prompt": "half \ud800"}),
    (COMPLETIONS, {"model": BASE, "prompt": [5, 6, 7], "max_tokens": 1}),
    (COMPLETIONS, {"model": BASE, "prompt": [[5, 6], [7.0]], "max_tokens": 1}),
    (COMPLETIONS, {"model": BASE, "prompt": ["x", "y"], "max_tokens": 1}),
    (COMPLETIONS, {"model": BASE, "prompt": []}),
    (COMPLETIONS, {"model": BASE, "prompt": [10**6]}),
    (COMPLETIONS, {"model": BASE, "prompt": [-1]}),
    (COMPLETIONS, {"model": BASE, "prompt": {"a": 1}}),
    (COMPLETIONS, {"model": BASE, "prompt": "x", "metadata": 3}),
    (COMPLETIONS, [1, 2]),
    (COMPLETIONS, 3),
    (COMPLETIONS, {"model": BASE, "prompt": [5, 6, 7], "max_tokens": 1, "truncate_prompt_tokens": 2}),
    (COMPLETIONS, {"model": BASE, "prompt": "x", "best_of": 100}),
    (CHAT, {"model": BASE, "messages": [TURN], "chat_template_kwargs": {"x": True}}),
    (CHAT, {"model": BASE, "messages": [TURN], "chat_template_kwargs": {"x": "half \ud800"}}),
    (RESPONSES, {"model": BASE, "input": "x", "max_output_tokens": 1, "metadata": {"a": "b"}}),
    (RESPONSES, {"model": BASE, "input": [TURN, {"type": "reasoning", "content": []}], "instructions": "x"}),
    (RESPONSES, {"model": BASE, "input": [TURN, {"type": "item_reference", "id": "x"}]}),
    (RESPONSES, {"model": BASE, "input": [{"role": "user", "content": [{"type": "input_image"}]}]}),
    (RESPONSES, {"model": BASE, "input": [TURN], "store": True}),
    (RESPONSES, {"model": BASE, "input": []}),
    (RESPONSES, {"model": BASE, "input": 3}),
    (EMBEDDINGS, {"model": BASE, "input": [[5, 6], [7]]}),
    (EMBEDDINGS, {"model": BASE, "input": [5, 6, 7]}),
    (EMBEDDINGS, {"model": BASE, "input": []}),
    (EMBEDDINGS, {"model": BASE, "input": ["x"], "dimensions": 3}),
    (CLASSIFY, {"model": "spam", "input": ["x", "y"]}),
    (CLASSIFY, {"model": "spam", "input": [3]}),
    ("/v1/tenants/acme/keys", {"scopes": 3}),
]
NOT_JSON = [b"{", b'{"model": "\xff"}', b"", b"[" * 100_000, b'{"model": NaN}', b"nul"]


def _settled(told: Any) -> Any:
    """Return a response without what differs between any two."""
    drawn = ("id", "created", "created_at")
    return {
        name: [_settled(item) for item in value] if name == "output" else value
        for name, value in told.items()
        if name not in drawn
    }


@pytest.mark.parametrize(("path", "body"), CASES, ids=str)
async def test_a_worker_answers_as_the_event_loop_does(rig: ApiRig, path: str, body: object) -> None:
    content = json.dumps(body).encode()
    small = await send(rig, path, content)
    with capture_logs() as lines, loop_time():
        large = await send(rig, path, content + b" " * INLINE_BYTES)
    assert [line["by"] for line in lines if line["event"] == "body"] == ["worker"]
    assert (large[0], _settled(large[1])) == (small[0], _settled(small[1]))
    messages = rig.engine.of(Generate)
    half = len(messages) // 2
    assert [message.prompt for message in messages[:half]] == [message.prompt for message in messages[half:]]


@pytest.mark.parametrize("content", NOT_JSON)
async def test_a_worker_refuses_malformed_json_as_the_event_loop_does(rig: ApiRig, content: bytes) -> None:
    small = await send(rig, COMPLETIONS, content) if len(content) < INLINE_BYTES and content else None
    status, told = await send(rig, COMPLETIONS, content + b" " * INLINE_BYTES)
    assert status == 400
    assert small is None or small == (status, told)


def _many(head: str, entry: str, tail: str) -> bytes:
    return (head + ",".join([entry] * ((ROOM - len(head) - len(tail)) // (len(entry) + 1))) + tail).encode()


HEAVY: dict[str, tuple[str, bytes, str | None]] = {
    "empty messages": (
        CHAT,
        _many(f'{{"model": "{BASE}", "messages": [', '{"role":"user","content":""}', "]}"),
        "messages",
    ),
    "empty items": (
        RESPONSES,
        _many(f'{{"model": "{BASE}", "input": [', '{"role":"user","content":""}', "]}"),
        "input",
    ),
    "empty parts": (
        CHAT,
        _many(f'{{"model": "{BASE}", "messages": [{{"role":"user","content":[', '{"type":"text","text":""}', "]}]}"),
        "messages",
    ),
    "metadata": (
        CHAT,
        _many(f'{{"model": "{BASE}", "messages": [{json.dumps(TURN)}], "metadata": {{"a": [', "[]", "]}}"),
        "metadata",
    ),
    "ignored fields": (
        CHAT,
        _many(f'{{"model": "{BASE}", "messages": [{{"role":"user","content":"x","opts":[', "{}", "]}]}"),
        None,
    ),
    "objects": (COMPLETIONS, _many(f'{{"model": "{BASE}", "prompt": [', "{}", "]}"), "prompt"),
    "empty prompts": (COMPLETIONS, _many(f'{{"model": "{BASE}", "prompt": [', "[]", "]}"), "n"),
    "empty texts": (COMPLETIONS, _many(f'{{"model": "{BASE}", "prompt": [', '""', "]}"), "n"),
    "token ids": (COMPLETIONS, _many(f'{{"model": "{BASE}", "prompt": [', "7", "]}"), "prompt"),
    "texts": (EMBEDDINGS, _many(f'{{"model": "{BASE}", "input": [', '"x"', "]}"), "input"),
    "texts to classify": (CLASSIFY, _many('{"model": "spam", "input": [', '"x"', "]}"), "input"),
    "names": (
        CHAT,
        _many(f'{{"model": "{BASE}", "messages": [', '{"role":"user","content":"","name":"n"}', "]}"),
        "messages",
    ),
}


@pytest.mark.parametrize("case", HEAVY)
async def test_a_body_beyond_a_bound_is_refused_by_name_without_delaying_others(rig: ApiRig, case: str) -> None:
    path, content, param = HEAVY[case]
    with loop_time():
        status, told = await send(rig, path, content)
    if param is None:
        assert status == 200
    else:
        assert (status, told["error"]["param"]) == (400, param)


@pytest.mark.parametrize("padding", [b"", b" " * INLINE_BYTES])
async def test_bounds_are_settings(base_folder: Path, tmp_path: Path, padding: bytes) -> None:
    settings = {"max_messages": 3, "max_metadata_bytes": 20}
    parts = {"role": "user", "content": [{"type": "text", "text": "x"}] * 2}
    bodies: list[tuple[dict[str, Any], str | None]] = [
        ({"messages": [TURN] * 3}, None),
        ({"messages": [TURN] * 4}, "messages"),
        ({"messages": [parts]}, None),
        ({"messages": [parts, TURN]}, "messages"),
        ({"messages": [TURN], "metadata": {"a": "b"}}, None),
        ({"messages": [TURN], "metadata": {"a": "b" * 20}}, "metadata"),
        ({"messages": [TURN], "prompt_cache_options": {"a": "b" * 20}}, "prompt_cache_options"),
    ]
    async with api_rig(base_folder, tmp_path, settings=settings) as rig:
        for body, param in bodies:
            status, told = await send(rig, CHAT, json.dumps({"model": BASE, **body}).encode() + padding)
            assert (status, told.get("error", {}).get("param")) == (200 if param is None else 400, param)


async def test_many_full_prompts_of_token_ids_block_nobody(rig: ApiRig) -> None:
    ids = [[7 + place % 90 for place in range(8000)] for _ in range(100)]
    content = json.dumps({"model": BASE, "input": ids}).encode()
    with loop_time():
        status, told = await send(rig, EMBEDDINGS, content)
    assert (status, len(told["data"])) == (200, 100)
