"""Rows as OpenAI's fine-tuning guides print them are read unchanged, or refused by the name of what is not trained."""

from typing import Any

import pytest

from headmix_adapters.train.data.answers import Conversation, read_generation
from headmix_adapters.train.data.forms.openai_form import in_openai_form
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.errors import DataError

SYSTEM = {"role": "system", "content": "Marv is a factual chatbot that is also sarcastic."}
QUESTION = {"role": "user", "content": "What's the capital of France?"}
ANSWER = {"role": "assistant", "content": "Paris, as if everyone doesn't know that already."}
PARAMETERS = {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}
FUNCTION = {"name": "get_weather", "description": "The weather", "parameters": PARAMETERS}
CALL = {"name": "get_weather", "arguments": '{"location": "San Francisco, USA"}'}
TOOL_CALL = {"id": "call_id", "type": "function", "function": CALL}
TOOL = {"type": "function", "function": FUNCTION}
CALLED = {"role": "assistant", "tool_calls": [TOOL_CALL]}
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/face.png"}}

READ: dict[str, tuple[dict[str, Any], list[int]]] = {
    "one turn": ({"messages": [SYSTEM, QUESTION, ANSWER]}, [2]),
    "weights": (
        {"messages": [SYSTEM, QUESTION, ANSWER | {"weight": 0}, QUESTION, ANSWER | {"weight": 1}, QUESTION, ANSWER]},
        [4, 6],
    ),
    "weights 0 on what is never learned": (
        {"messages": [SYSTEM | {"weight": 0}, QUESTION | {"trainable": False}, ANSWER]},
        [2],
    ),
    "no weights: every answer": ({"messages": [SYSTEM, QUESTION, ANSWER, QUESTION, ANSWER]}, [2, 4]),
    "a greeting is context": ({"messages": [ANSWER, QUESTION, ANSWER]}, [2]),
    "developer, names, parts": (
        {
            "messages": [
                SYSTEM | {"role": "developer"},
                QUESTION | {"name": "Ada", "content": [{"type": "text", "text": "Hello?"}]},
                ANSWER | {"refusal": None},
            ]
        },
        [2],
    ),
    "tools": ({"messages": [QUESTION, CALLED], "parallel_tool_calls": False, "tools": [TOOL]}, [1]),
    "results of tools": (
        {
            "messages": [QUESTION, CALLED, {"role": "tool", "tool_call_id": "call_id", "content": "21.0"}, ANSWER],
            "tools": [TOOL | {"function": FUNCTION | {"strict": True}}],
        },
        [1, 3],
    ),
    "functions": (
        {"messages": [QUESTION, {"role": "assistant", "function_call": CALL}], "functions": [FUNCTION]},
        [1],
    ),
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "pictures": (
        {"messages": [QUESTION | {"content": [PICTURE]}, ANSWER]},
        r"messages\[0\]: content\[0\] is not a text part; only text can be learned",
    ),
    "preferences": (
        {"input": {"messages": [QUESTION]}, "preferred_output": [ANSWER], "non_preferred_output": [ANSWER]},
        r"field 'preferred_output' is of preference data \(DPO\), which is not trained on",
    ),
    "an answer's refusal": ({"messages": [QUESTION, ANSWER | {"refusal": "No."}]}, "field 'refusal' is not supported"),
    "references of a grader": (
        {"messages": [QUESTION, ANSWER], "reference_answer": "Paris"},
        "field 'reference_answer' is not supported",
    ),
    "no answer": ({"messages": [QUESTION]}, "must end with the assistant's answer"),
    "a weighted question": ({"messages": [QUESTION | {"weight": 1}, ANSWER]}, "only the assistant's answers can be"),
    "half a weight": ({"messages": [QUESTION, ANSWER | {"weight": 0.5}]}, "weight is 0.5, but must be 0 or 1"),
    "several calls against the row": (
        {
            "messages": [QUESTION, CALLED | {"tool_calls": [TOOL_CALL] * 2}],
            "parallel_tool_calls": False,
            "tools": [TOOL],
        },
        "parallel_tool_calls is false, but an answer calls several functions",
    ),
}


@pytest.mark.parametrize("form", READ)
def test_a_row_learns_what_it_learns_there(form: str) -> None:
    fields, chosen = READ[form]
    read = read_generation(in_openai_form(Row("f.jsonl:5", fields), ()), (), "all")
    assert isinstance(read, Conversation)
    assert read.chosen == chosen


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_not_trained_is_refused_by_its_name_and_line(form: str) -> None:
    fields, message = REFUSED[form]
    with pytest.raises(DataError, match=rf"^f\.jsonl:5: .*{message}"):
        read_generation(in_openai_form(Row("f.jsonl:5", fields), ()), (), "all")
