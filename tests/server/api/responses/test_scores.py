"""Thousands of logprobs are converted in parts, with the same result as at once and without blocking others."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from harness.server.api_rig import BASE, ApiRig, api_rig
from headmix_server.api.responses import logprobs
from headmix_server.core.messages import EngineReady
from tests.support.clocks.loop_time import loop_time

CONTEXT, TOP = 4096, 20
READY = EngineReady(pid=1, max_model_len=CONTEXT, kv_blocks=1024, block_size=16, adapter_slots=4)
PROMPT = [3 + place % 200 for place in range(CONTEXT - 64)]
ECHO: dict[str, Any] = {"model": BASE, "prompt": PROMPT, "max_tokens": 1, "echo": True, "logprobs": TOP}


@pytest.fixture
async def rig(base_folder: Path, tmp_path: Path) -> AsyncIterator[ApiRig]:
    async with api_rig(base_folder, tmp_path, ready=READY) as running:
        yield running


async def ask(rig: ApiRig, path: str, body: dict[str, Any], *, stream: bool) -> Any:
    """Return the log-probabilities in a response, or in all its events together."""
    answer = await rig.client.post(path, json={**body, "stream": stream})
    assert answer.status_code == 200, answer.text
    if not stream:
        return answer.json()["choices"][0]["logprobs"]
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    joined: dict[str, Any] = {}
    for event in events:
        for name, entries in (event["choices"][0].get("logprobs") or {}).items():
            joined[name] = [*joined.get(name, []), *entries] if entries is not None else None
    return joined


@pytest.mark.parametrize("stream", [False, True])
async def test_a_long_prompts_scores_block_nobody_and_are_those_of_one_piece(
    rig: ApiRig, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    rig.says("x")
    with loop_time():
        in_parts = await ask(rig, "/v1/completions", ECHO, stream=stream)
    assert len(in_parts["tokens"]) == len(PROMPT) + 1
    monkeypatch.setattr(logprobs, "PART", 10 * CONTEXT)
    assert await ask(rig, "/v1/completions", ECHO, stream=stream) == in_parts


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
async def test_scores_that_were_held_back_together_block_nobody(
    rig: ApiRig, monkeypatch: pytest.MonkeyPatch, path: str, stream: bool
) -> None:
    # Special tokens have no text, so the entries of a run of them wait for the end.
    rig.engine.reply = [0] * (CONTEXT // 2)
    body: dict[str, Any] = {"model": BASE, "max_tokens": CONTEXT // 2, "ignore_eos": True}
    body |= {"prompt": "x", "logprobs": TOP} if path == "/v1/completions" else {}
    body |= (
        {"messages": [{"role": "user", "content": "x"}], "logprobs": True, "top_logprobs": TOP}
        if "chat" in path
        else {}
    )
    with loop_time():
        in_parts = await ask(rig, path, body, stream=stream)
    monkeypatch.setattr(logprobs, "PART", 10 * CONTEXT)
    assert await ask(rig, path, body, stream=stream) == in_parts


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [False, True])
async def test_thousands_of_tokens_that_come_at_once_block_nobody(rig: ApiRig, path: str, stream: bool) -> None:
    rig.says("abcdefgh" * (CONTEXT // 16))
    body: dict[str, Any] = {"model": BASE, "max_tokens": CONTEXT // 2, "ignore_eos": True}
    body |= {"prompt": "x", "logprobs": TOP} if path == "/v1/completions" else {}
    if "chat" in path:
        body |= {"messages": [{"role": "user", "content": "x"}], "logprobs": True, "top_logprobs": TOP}
    with loop_time():
        assert await ask(rig, path, body, stream=stream)
