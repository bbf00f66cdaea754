"""Rows with tools, calls and results are learned as the template renders them, or refused with their place."""

import json
from pathlib import Path
from typing import Any

import pytest

from headmix_adapters.text.base_text import BaseText
from headmix_adapters.text.chat_template import ChatTemplate
from headmix_adapters.train.data.examples import IGNORED, encode_generation
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.errors import DataError

TEMPLATE = (Path(__file__).parents[4] / "examples" / "tools.jinja").read_text(encoding="utf-8")
TOOL = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_time", "arguments": '{"city": "Oslo"}'}}
QUESTION = {"role": "user", "content": "What time is it in Oslo?"}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": '{"time": "9:30"}'}
ANSWER = {"role": "assistant", "content": "It is 9:30."}


def row(**fields: Any) -> list[Row]:
    return [Row("data.jsonl:1", {"messages": [QUESTION, CALLED], "tools": [TOOL], **fields})]


@pytest.fixture
def text(base_text: BaseText) -> BaseText:
    return BaseText(base_text.tokenizer, ChatTemplate(TEMPLATE, base_text.tokenizer.roles))


def prompt_and_answer(text: BaseText, rows: list[Row]) -> tuple[str, str]:
    (example,) = encode_generation(rows, text, 5000).examples
    assert isinstance(example.labels, list)
    answer = [token for token in example.labels if token != IGNORED]
    prompt = example.input_ids[: len(example.input_ids) - len(answer)]
    return tuple(text.tokenizer.decode(ids, skip_special_tokens=False) for ids in (prompt, answer))  # type: ignore[return-value]


def test_a_call_is_learned_and_the_tools_are_in_its_prompt(text: BaseText) -> None:
    prompt, answer = prompt_and_answer(text, row())
    assert json.dumps(TOOL["function"]) in prompt
    assert answer == '<tool_call>\n{"name": "get_time", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>'


def test_arguments_may_be_an_object_as_other_data_has_them(text: BaseText) -> None:
    call = {"function": {"name": "get_time", "arguments": {"city": "Oslo"}}}
    given = row(messages=[QUESTION, {"role": "assistant", "tool_calls": [call]}])
    assert prompt_and_answer(text, given) == prompt_and_answer(text, row())


def test_an_answer_after_results_is_learned_with_call_and_result_before_it(text: BaseText) -> None:
    prompt, answer = prompt_and_answer(text, row(messages=[QUESTION, CALLED, RESULT, ANSWER]))
    assert '"arguments": {"city": "Oslo"}' in prompt
    assert '<tool_response>\n{"time": "9:30"}\n</tool_response>' in prompt
    assert answer == "It is 9:30.<|im_end|>"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tools": "get_time"}, 'tools is "get_time", not a list'),
        ({"tools": [{"type": "retrieval"}]}, r"tools\[0\] is not an object with type function"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, r'tools\[0\]: function\.name is "", not a name'),
        ({"calls": [{"function": "get_time"}]}, r"messages\[1\]: tool_calls\[0\] is not an object with a function"),
        ({"calls": [CALL | {"note": "x"}]}, r'tool_calls\[0\]: field "note" is not read'),
        ({"calls": [{"function": {"name": "f", "arguments": "{"}}]}, "function.arguments is not JSON"),
        ({"calls": [{"function": {"name": "f", "arguments": "[1]"}}]}, r"function.arguments is \[1\], not an object"),
        ({"calls": [{"function": {"name": "f"}}]}, "function.arguments is null, not an object"),
    ],
)
def test_what_is_no_tool_or_call_is_refused_with_its_place(
    text: BaseText, fields: dict[str, Any], message: str
) -> None:
    calls = fields.pop("calls", None)
    if calls is not None:
        fields["messages"] = [QUESTION, {"role": "assistant", "tool_calls": calls}]
    with pytest.raises(DataError, match=rf"^data\.jsonl:1.*{message}"):
        encode_generation(row(**fields), text, 5000)


@pytest.mark.parametrize("fields", [{}, {"tools": []}], ids=["tools", "calls alone"])
def test_a_template_that_does_not_show_tools_is_refused_rather_than_trained_without_them(
    base_text: BaseText, fields: dict[str, Any]
) -> None:
    source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}<|im_end|>\n{% endfor %}"
    source += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    plain = BaseText(base_text.tokenizer, ChatTemplate(source, {}))
    with pytest.raises(DataError, match="the chat template does not show tools; name one that does"):
        encode_generation(row(**fields), plain, 5000)
