"""Tools that cannot be offered, or cannot bind an answer, are refused by name."""

from pathlib import Path
from typing import Any

import pytest

from harness.bases.base_folder import write_base_folder
from harness.server.api_rig import BASE, ApiRig, api_rig
from headmix_server.api.schemas.tools import MAX_DEPTH, MAX_TOOL_BYTES, MAX_TOOLS
from tests.server.api.tools.conftest import NOW, QUESTION, ROOMY, WEATHER, answer, refusal


@pytest.mark.parametrize(
    ("params", "param", "said"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "nope"}}}, "tool_choice", "'nope'"),
        ({"tool_choice": "required", "tools": []}, "tool_choice", "needs tools"),
        ({"tool_choice": "maybe"}, "tool_choice", "required"),
        ({"tool_choice": 5}, "tool_choice", "required"),
        ({"tool_choice": {"type": "custom"}}, "tool_choice.type", "custom"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type", "web_search"),
        ({"tools": [{"type": "function"}]}, "tools.0.function", "required"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name", "letters"),
        ({"tools": [{"type": "function", "function": {"name": "a", "x": 1}}]}, "tools.0.function.x", "x"),
        ({"tools": [WEATHER, WEATHER]}, "tools", "'weather'"),
        ({"tools": [NOW] * (MAX_TOOLS + 1)}, "tools", f"{MAX_TOOLS}"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "description": "x" * MAX_TOOL_BYTES}}]},
            "tools",
            "bytes",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}]},
            "tools.0.function",
            "object",
        ),
        ({"functions": [{"name": "f"}]}, "functions", "not supported"),
        ({"function_call": {"name": "f"}}, "function_call", "not supported"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs.regex", "tools"),
        ({"messages": [{"role": "tool", "content": "5"}]}, "messages.0", "tool_call_id"),
        ({"messages": [{"role": "user", "content": "5", "tool_call_id": "x"}]}, "messages.0", "role 'tool'"),
        ({"messages": [{"role": "function", "name": "f", "content": "5"}]}, "messages.0.role", "function"),
        (
            {
                "messages": [
                    {"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": "{"}}]}
                ]
            },
            "messages",
            "not a JSON object",
        ),
    ],
)
async def test_what_cannot_be_is_refused_by_name(hermes: ApiRig, params: dict[str, Any], param: str, said: str) -> None:
    error = await refusal(hermes, **params)
    assert error["param"] == param
    assert said in error["message"]


async def test_tools_that_are_nested_too_deeply_are_refused(hermes: ApiRig) -> None:
    schema: dict[str, Any] = {}
    for _ in range(MAX_DEPTH):
        schema = {"properties": {"a": schema}}
    error = await refusal(hermes, tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}])
    assert (error["param"], "levels deep" in error["message"]) == ("tools", True)


@pytest.mark.parametrize(
    "parameters",
    [
        {"properties": {"a": {"not": {}}}},
        {"properties": {"a": {"type": "string", "pattern": "(?=a)b"}}},
        {"properties": {"a": {"type": "integer", "multipleOf": 999_983}}},
        {"properties": {"a": {"$ref": "https://example.com/x"}}},
    ],
)
async def test_hostile_parameters_are_refused_where_they_bind_and_only_shown_where_not(
    hermes: ApiRig, parameters: dict[str, Any]
) -> None:
    hermes.says("x")
    tools = [{"type": "function", "function": {"name": "bad", "parameters": parameters}}]
    error = await refusal(hermes, tools=tools, tool_choice="required")
    assert error["param"] == "tools"
    assert "cannot be enforced" in error["message"]
    await answer(hermes, tools=tools)


async def test_a_template_without_tools_is_named(rig: ApiRig) -> None:
    error = await refusal(rig)
    assert error["param"] == "tools"
    assert f"The chat template of the base '{BASE}' has no tools" in error["message"]
    called = {"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": "{}"}}]}
    error = await refusal(rig, messages=[QUESTION, called], tools=None)
    assert error["param"] == "messages"
    rig.says("x")
    assert (await answer(rig, tool_choice="none"))["message"]["content"] == "x"


async def test_a_template_with_tools_in_an_unknown_format_is_named(tmp_path: Path) -> None:
    folder = write_base_folder(tmp_path / "base", chat_template="{{ tools | tojson }}{{ messages[0].content }}")
    async with api_rig(folder, tmp_path / "data", ready=ROOMY) as rig:
        error = await refusal(rig)
        assert error["param"] == "tools"
        assert "format that this server does not know" in error["message"]
