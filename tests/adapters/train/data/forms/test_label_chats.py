"""Chats whose answers are labels become texts with labels; nothing that tells rows apart is lost on the way."""

from typing import Any

import pytest

from headmix_adapters.train.data.forms.label_chats import LabelChats
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.errors import DataError

SYSTEM = {"role": "system", "content": "Spam or ham?"}
QUESTION, ANSWER = {"role": "user", "content": "Win!"}, {"role": "assistant", "content": "spam\n"}

CALL = {"name": "f", "arguments": {}}


def labelled(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    chats = LabelChats("single_label", ())
    return [chats.read(Row(f"d:{number}", row)).fields for number, row in enumerate(rows, start=1)]


def test_the_question_is_the_text_and_the_answer_the_label() -> None:
    assert labelled({"messages": [QUESTION, ANSWER]}) == [{"text": "Win!", "label": "spam"}]
    assert labelled({"prompt": "Win!", "completion": " spam"}) == [{"text": "Win!", "label": "spam"}]
    assert labelled({"text": "Win!", "label": 1}) == [{"text": "Win!", "label": 1}]


def test_a_system_message_that_is_always_the_same_is_left_out_and_counted() -> None:
    chats = LabelChats("single_label", ())
    for number in range(2):
        chats.read(Row(f"d:{number}", {"messages": [SYSTEM, QUESTION, ANSWER]}))
    assert list(chats.notes()) == [
        "the system message of 2 rows is left out: a classifier is served the text alone",
    ]


def test_other_fields_stay_to_be_understood_or_refused() -> None:
    (fields,) = labelled({"messages": [QUESTION, ANSWER | {"weight": 0}], "tools": [1], "id": 7})
    assert fields == {"text": "Win!", "label": "spam", "trainable": False, "tools": [1], "id": 7}


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([QUESTION, ANSWER, QUESTION, ANSWER], "has one message of the user"),
        ([SYSTEM, ANSWER], "has one message of the user"),
        ([SYSTEM | {"content": "Other"}, QUESTION, ANSWER], "the system message differs from line 1's"),
        ([QUESTION, ANSWER], "the system message differs from line 1's"),
        ([SYSTEM | {"weight": 1}, QUESTION, ANSWER], "marked as learned"),
        (
            [SYSTEM, QUESTION, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}],
            "calls",
        ),
    ],
)
def test_a_chat_that_says_more_than_a_text_is_refused(messages: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=rf"^d:2: .*{message}"):
        labelled({"messages": [SYSTEM, QUESTION, ANSWER]}, {"messages": messages})
