"""Tools of a response: calls are items of their own, whole and streamed, and come back as items of the input."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openai import AsyncOpenAI

from harness.bases.base_folder import write_base_folder
from harness.bases.tool_templates import HERMES
from harness.server.api_rig import BASE, TENANT, ApiRig, api_rig
from harness.server.fake_engine import READY
from headmix_server.core.messages import Generate

URL, CHAT = "/v1/responses", "/v1/chat/completions"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "Now.", "parameters": CITY}
WEATHER = {"type": "function", **FUNCTION}
ROOMY = msgspec.structs.replace(READY, max_model_len=4096, kv_blocks=512)
QUESTION = {"role": "user", "content": "How warm is it?"}
PARIS, ROME = '{"city": "Paris"}', '{"city": "Ro</tool_call>me"}'
TWO_CALLS = (
    'Let me see.\n<tool_call>\n{"name": "weather", "arguments": ' + PARIS + "}\n</tool_call>\n"
    '<tool_call>\n{"name": "weather", "arguments": ' + ROME + "}\n</tool_call>"
)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[ApiRig]:
    folder = write_base_folder(tmp_path / "hermes", chat_template=HERMES)
    async with api_rig(folder, tmp_path / "data", ready=ROOMY) as running:
        yield running


async def ask(rig: ApiRig, **params: Any) -> dict[str, Any]:
    response = await rig.client.post(URL, json={"model": BASE, "input": [QUESTION], "tools": [WEATHER], **params})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def stream(rig: ApiRig, **params: Any) -> list[dict[str, Any]]:
    body = {"model": BASE, "input": [QUESTION], "tools": [WEATHER], "stream": True, **params}
    response = await rig.client.post(URL, json=body)
    assert response.status_code == 200, response.text
    return [json.loads(block.partition("data: ")[2]) for block in response.text.strip().split("\n\n")]


async def refusal(rig: ApiRig, **params: Any) -> tuple[str, str]:
    response = await rig.client.post(URL, json={"model": BASE, "input": [QUESTION], "tools": [WEATHER], **params})
    assert response.status_code == 400, response.text
    return response.json()["error"]["code"], response.json()["error"]["param"]


async def prompt_of_chat(rig: ApiRig, messages: list[dict[str, Any]]) -> list[int]:
    tools = [{"type": "function", "function": FUNCTION}]
    answer = await rig.client.post(CHAT, json={"model": BASE, "messages": messages, "tools": tools})
    assert answer.status_code == 200, answer.text
    return rig.engine.of(Generate)[-1].prompt


def settled(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item without what is drawn."""
    return {name: value for name, value in item.items() if name not in ("id", "call_id")}


async def test_calls_are_items_after_the_text_whole_and_streamed(rig: ApiRig) -> None:
    rig.says(TWO_CALLS)
    answer = await ask(rig)
    message, paris, rome = answer["output"]
    assert message["content"][0]["text"] == "Let me see."
    expected = {"type": "function_call", "status": "completed", "name": "weather"}
    assert settled(paris) == {**expected, "arguments": PARIS}
    assert settled(rome) == {**expected, "arguments": ROME}
    assert paris["call_id"] != rome["call_id"]
    assert (answer["status"], answer["tools"], answer["tool_choice"]) == ("completed", [WEATHER], "auto")
    events = await stream(rig)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [settled(item) for item in events[-1]["response"]["output"]] == [settled(item) for item in answer["output"]]
    for place, call in ((1, PARIS), (2, ROME)):
        own = [event for event in events if event.get("output_index") == place]
        kinds = [event["type"].removeprefix("response.") for event in own]
        assert (kinds[0], kinds[-2:]) == (
            "output_item.added",
            ["function_call_arguments.done", "output_item.done"],
        )
        assert set(kinds[1:-2]) == {"function_call_arguments.delta"}
        assert "".join(event["delta"] for event in own[1:-2]) == own[-2]["arguments"] == call
        assert own[0]["item"]["arguments"] == ""
        assert {event["item_id"] for event in own[1:-1]} == {own[0]["item"]["id"]} == {own[-1]["item"]["id"]}


async def test_calls_and_results_sent_back_are_the_turns_of_a_chat(rig: ApiRig) -> None:
    rig.says(TWO_CALLS)
    message, paris, rome = (await ask(rig))["output"]
    results = [
        {"type": "function_call_output", "call_id": paris["call_id"], "output": "18"},
        {
            "type": "function_call_output",
            "call_id": rome["call_id"],
            "output": [{"type": "input_text", "text": "2"}, {"type": "input_text", "text": "5"}],
        },
    ]
    rig.says("Warm.")
    await ask(rig, input=[QUESTION, message, paris, rome, *results])
    sent = rig.engine.of(Generate)[-1].prompt
    calls = [
        {"id": call["call_id"], "type": "function", "function": {"name": "weather", "arguments": call["arguments"]}}
        for call in (paris, rome)
    ]
    turns: list[dict[str, Any]] = [
        QUESTION,
        {"role": "assistant", "content": "Let me see.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": paris["call_id"], "content": "18"},
        {"role": "tool", "tool_call_id": rome["call_id"], "content": "25"},
    ]
    assert sent == await prompt_of_chat(rig, turns)


async def test_reasoning_is_an_item_and_comes_back_as_reasoning(rig: ApiRig) -> None:
    rig.says("<think>Hm.</think>Hello")
    answer = await ask(rig)
    thought, message = answer["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert (thought["type"], thought["summary"], message["content"][0]["text"]) == ("reasoning", [], "Hello")
    events = await stream(rig)
    assert "".join(e["delta"] for e in events if e["type"] == "response.reasoning_text.delta") == "Hm."
    assert [settled(item) for item in events[-1]["response"]["output"]] == [settled(item) for item in answer["output"]]
    await ask(rig, input=[QUESTION, *answer["output"], QUESTION])
    sent = rig.engine.of(Generate)[-1].prompt
    told: list[dict[str, Any]] = [
        QUESTION,
        {"role": "assistant", "content": "Hello", "reasoning_content": "Hm."},
        QUESTION,
    ]
    assert sent == await prompt_of_chat(rig, told)


async def test_a_required_or_named_call_is_bound_as_in_a_chat(rig: ApiRig) -> None:
    rig.says('<tool_call>\n{"name": "weather", "arguments": ' + PARIS + "}\n</tool_call>")
    named, of_chat = {"type": "function", "name": "weather"}, {"type": "function", "function": {"name": "weather"}}
    for choice, chat_choice in (("required", "required"), (named, of_chat)):
        answer = await ask(rig, tool_choice=choice, parallel_tool_calls=False)
        assert answer["tool_choice"] == choice
        grammar = rig.engine.of(Generate)[-1].sampling.grammar
        tools = [{"type": "function", "function": FUNCTION}]
        body = {"model": BASE, "messages": [QUESTION], "tools": tools, "parallel_tool_calls": False}
        await rig.client.post(CHAT, json={**body, "tool_choice": chat_choice})
        assert grammar is not None
        assert grammar == rig.engine.of(Generate)[-1].sampling.grammar


async def test_a_call_that_is_cut_is_incomplete(rig: ApiRig) -> None:
    rig.says('<tool_call>\n{"name": "weather", "arguments": ' + PARIS + "}\n</tool_call>")
    answer = await ask(rig, tool_choice="required", max_output_tokens=len(rig.engine.reply) - 14)
    assert answer["status"] == "incomplete"
    assert answer["output"][-1]["status"] == "incomplete"


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "unsupported_parameter", "tools.0.type"),
        ({"tools": [WEATHER, WEATHER]}, "invalid_request_error", "tools"),
        ({"tools": [{"type": "function"}]}, "invalid_request_error", "tools.0.name"),
        ({"tool_choice": {"type": "allowed_tools"}}, "unsupported_parameter", "tool_choice.type"),
        ({"tool_choice": {"type": "function", "name": "x"}}, "invalid_request_error", "tool_choice"),
        ({"tool_choice": "any"}, "invalid_request_error", "tool_choice"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "invalid_request_error", "input.0.call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "invalid_request_error", "input.0.output"),
        ({"input": [{"type": "computer_call"}]}, "unsupported_parameter", "input.0.type"),
        (
            {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "["}, QUESTION]},
            "invalid_request_error",
            "input",
        ),
    ],
)
async def test_what_is_refused_is_named(rig: ApiRig, params: dict[str, Any], code: str, param: str) -> None:
    assert await refusal(rig, **params) == (code, param)
    assert not rig.engine.of(Generate)


async def test_an_agents_loop_with_openais_sdk(rig: ApiRig) -> None:
    rig.says(TWO_CALLS)
    tools: Any = [{**WEATHER, "strict": None}]
    async with AsyncOpenAI(base_url=f"{rig.url}/v1", api_key=rig.keys[TENANT], max_retries=0) as sdk:
        said: list[Any] = [QUESTION]
        answer = await sdk.responses.create(model=BASE, input=said, tools=tools)
        said += answer.output
        calls = [item for item in answer.output if item.type == "function_call"]
        assert [json.loads(call.arguments) for call in calls] == [json.loads(PARIS), json.loads(ROME)]
        said += [{"type": "function_call_output", "call_id": call.call_id, "output": "18"} for call in calls]
        async with sdk.responses.stream(model=BASE, input=said, tools=tools) as events:
            snapshots = [
                event.snapshot async for event in events if event.type == "response.function_call_arguments.delta"
            ]
            final = await events.get_final_response()
        assert [call.arguments for call in final.output if call.type == "function_call"] == [PARIS, ROME]
        assert snapshots[-1] == ROME
        rig.says("Warm.")
        answer = await sdk.responses.create(model=BASE, input=said, tools=tools)
        assert answer.output_text == "Warm."
