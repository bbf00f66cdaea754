"""A base that knows tools, and requests with two of them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.bases.base_folder import write_base_folder
from harness.bases.tool_templates import HERMES
from harness.server.api_rig import BASE, ApiRig, api_rig
from harness.server.fake_engine import READY
from headmix_server.core.messages import Generate
from tests.support.sse import events

CHAT = "/v1/chat/completions"


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


WEATHER = {"type": "function", "function": {"name": "weather", "description": "Now.", "parameters": CITY}}


NOW = {"type": "function", "function": {"name": "now"}}


ROOMY = msgspec.structs.replace(READY, max_model_len=4096, kv_blocks=512)


QUESTION = {"role": "user", "content": "How warm is it?"}


PARIS, ROME = '{"city": "Paris"}', '{"city": "Ro</tool_call>me"}'


TWO_CALLS = (
    'Let me see.\n<tool_call>\n{"name": "weather", "arguments": ' + PARIS + "}\n</tool_call>\n"
    '<tool_call>\n{"name": "weather", "arguments": ' + ROME + "}\n</tool_call>"
)


@pytest.fixture
async def hermes(tmp_path: Path) -> AsyncIterator[ApiRig]:
    folder = write_base_folder(tmp_path / "hermes", chat_template=HERMES)
    async with api_rig(folder, tmp_path / "data", ready=ROOMY) as rig:
        yield rig


def body(**params: Any) -> dict[str, Any]:
    return {"model": BASE, "messages": [QUESTION], "tools": [WEATHER, NOW], **params}


async def answer(rig: ApiRig, **params: Any) -> dict[str, Any]:
    response = await rig.client.post(CHAT, json=body(**params))
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()["choices"][0]
    return found


async def deltas(rig: ApiRig, **params: Any) -> tuple[list[dict[str, Any]], str]:
    """Return a streamed choice's deltas and its finish reason."""
    response = await rig.client.post(CHAT, json=body(stream=True, **params))
    assert response.status_code == 200, response.text
    choices = [choice for event in events(response.text)[:-1] for choice in event["choices"]]
    reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"] is not None]
    assert reasons == [choices[-1]["finish_reason"]]
    return [choice["delta"] for choice in choices], reasons[0]


async def refusal(rig: ApiRig, **params: Any) -> dict[str, Any]:
    response = await rig.client.post(
        CHAT, json=body(**params), timeout=120
    )  # a trial's processor time on a busy machine
    assert response.status_code == 400, response.text
    assert not rig.engine.of(Generate)
    error: dict[str, Any] = response.json()["error"]
    return error


def prompt(rig: ApiRig) -> str:
    return rig.state.tokenizer.decode(rig.engine.of(Generate)[-1].prompt, skip_special_tokens=False)


def joined(parts: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the calls of a stream, checked event by event."""
    calls: list[tuple[str, str]] = []
    for part in parts:
        for call in part.get("tool_calls", []):
            if call.keys() == {"index", "id", "type", "function"}:
                assert (call["index"], call["type"]) == (len(calls), "function")
                assert call["function"].keys() == {"name", "arguments"}
                assert call["function"]["arguments"] == ""
                calls.append((call["function"]["name"], ""))
            else:
                assert call.keys() == {"index", "function"}
                assert call["function"].keys() == {"arguments"}
                assert call["index"] == len(calls) - 1
                name, before = calls[-1]
                calls[-1] = (name, before + call["function"]["arguments"])
    return calls
