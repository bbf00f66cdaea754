"""OpenAI's older names mean what the newer ones do; both at once are refused."""

from typing import Any

import pytest

from headmix_adapters.train.data.answers import Conversation, read_generation
from headmix_adapters.train.data.forms.openai_form import in_openai_form
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.errors import DataError

QUESTION = {"role": "user", "content": "Time?"}
FUNCTION = {"name": "get_time", "parameters": {"type": "object"}}
CALL = {"name": "get_time", "arguments": '{"city": "Oslo"}'}
ANSWER = {"role": "assistant", "content": "9:30."}


def read(**fields: Any) -> Conversation:
    read = read_generation(in_openai_form(Row("d:3", fields), ()), (), "last")
    assert isinstance(read, Conversation)
    return read


def test_the_older_names_read_as_the_newer_ones() -> None:
    called = {"role": "assistant", "content": None, "function_call": CALL}
    result = {"role": "function", "name": "get_time", "content": "9:30"}
    older = read(messages=[QUESTION, called, result, ANSWER], functions=[FUNCTION])
    newer = read(
        messages=[
            QUESTION,
            {"role": "assistant", "tool_calls": [{"type": "function", "function": CALL}]},
            {"role": "tool", "name": "get_time", "content": "9:30"},
            ANSWER,
        ],
        tools=[{"type": "function", "function": FUNCTION}],
    )
    assert older == newer


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"functions": [FUNCTION], "tools": [{}]}, "functions and tools are two names of one thing"),
        ({"functions": {"name": "f"}}, "functions is .*, not a list"),
        ({"functions": [{"parameters": {}}]}, r"tools\[0\]: function.name is null, not a name"),
        (
            {"messages": [QUESTION, ANSWER | {"function_call": CALL, "tool_calls": [{}]}]},
            r"messages\[1\]: function_call",
        ),
        ({"messages": [QUESTION, ANSWER | {"function_call": {"name": "f"}}]}, "function.arguments is null"),
    ],
)
def test_what_contradicts_itself_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"^d:3: .*{message}|^d:3: {message}"):
        read(**{"messages": [QUESTION, ANSWER], **fields})
