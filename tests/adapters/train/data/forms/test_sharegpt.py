"""ShareGPT's conversations are learned as the same messages are, or refused with the entry's place."""

from typing import Any

import pytest

from headmix_adapters.train.data.forms.openai_form import in_openai_form
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.errors import DataError

HUMAN, GPT = {"from": "human", "value": "A fox?"}, {"from": "gpt", "value": "A dog."}


def turned(*ignored: str, **fields: Any) -> dict[str, Any]:
    return in_openai_form(Row("d.jsonl:7", fields), ignored).fields


def test_from_and_value_become_role_and_content() -> None:
    fields = turned(conversations=[HUMAN, GPT | {"weight": 1}, HUMAN, GPT], system="Be brief.", weight=1)
    assert fields == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "A fox?"},
            {"role": "assistant", "content": "A dog.", "weight": 1},
            {"role": "user", "content": "A fox?"},
            {"role": "assistant", "content": "A dog."},
        ],
        "weight": 1,
    }


def test_calls_and_their_results_are_tools() -> None:
    call = {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'}
    messages = turned(conversations=[HUMAN, call, {"from": "observation", "value": "2"}, GPT])["messages"]
    assert messages[1] == {
        "role": "assistant",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}],
    }
    assert messages[2] == {"role": "tool", "content": "2"}


def test_other_rows_and_entries_of_role_and_content_stay_as_they_are() -> None:
    messages = [{"role": "user", "content": "x"}]
    assert turned(conversations=messages) == {"messages": messages}
    assert turned(messages=messages, conversations=[]) == {"messages": messages, "conversations": []}
    assert turned(text="x", label="y") == {"text": "x", "label": "y"}
    assert turned("conversations", conversations=[HUMAN]) == {"conversations": [HUMAN]}


def test_two_conversations_in_a_row_are_refused_unless_one_is_ignored() -> None:
    messages = [{"role": "user", "content": "x"}]
    both = {"messages": messages, "conversations": [HUMAN, GPT]}
    with pytest.raises(DataError, match=r"^d\.jsonl:7: .* this one has two: messages and conversations"):
        turned(**both)
    assert turned("conversations", **both) == both


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("x", 'conversations is "x", not a list'),
        (["x"], r"conversations\[0\] is not an object with from and value"),
        ([HUMAN, {"from": "robot", "value": "x"}], r'conversations\[1\]: from "robot" is not one of system, '),
        ([HUMAN | {"html": "x"}], r"conversations\[0\]: field 'html' is not supported"),
        ([{"from": "human"}], r"conversations\[0\]: field value is missing"),
        ([{"from": "function_call", "value": "{"}], r"conversations\[0\]: value is not the JSON of a call"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(entries: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"^d\.jsonl:7: {message}"):
        turned(conversations=entries)
