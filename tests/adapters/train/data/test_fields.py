"""Every field of a row is used, ignored because the recipe says so, or refused with its line: none is lost silently."""

from typing import Any

import pytest

from harness.adapters.artifacts import classifier_config
from headmix_adapters.text.base_text import BaseText
from headmix_adapters.text.chat_template import ChatTemplate
from headmix_adapters.train.data.examples import IGNORED, Encoded, encode_classification, encode_generation
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.errors import DataError

QUESTION = {"role": "user", "content": "A fox?"}
ANSWER = {"role": "assistant", "content": "A dog."}
TURNS = [QUESTION, ANSWER]


def rows(*fields: dict[str, Any]) -> list[Row]:
    return [Row(f"data.jsonl:{number}", row) for number, row in enumerate(fields, start=1)]


def learned(base_text: BaseText, encoded: Encoded) -> list[str]:
    texts = []
    for example in encoded.examples:
        assert isinstance(example.labels, list)
        ids = [label for label in example.labels if label != IGNORED]
        texts.append(base_text.tokenizer.decode(ids, skip_special_tokens=False))
    return texts


@pytest.mark.parametrize("mark", [{"weight": 0}, {"weight": 0.0}, {"weight": "0"}, {"trainable": False}])
@pytest.mark.parametrize("whole_row", [False, True], ids=["message", "row"])
def test_an_answer_of_weight_0_is_not_learned_but_counted(
    base_text: BaseText, mark: dict[str, Any], whole_row: bool
) -> None:
    marked = {"messages": TURNS} | mark if whole_row else {"messages": [QUESTION, ANSWER | mark]}
    encoded = encode_generation(rows(marked, {"messages": TURNS}), base_text, 500)
    assert (len(encoded.examples), encoded.excluded, encoded.dropped) == (1, 1, 0)


def test_a_completion_and_a_classified_text_of_weight_0_are_not_learned_either(
    base_text: BaseText,
) -> None:
    completions = rows({"prompt": "a", "completion": "b", "weight": 0}, {"prompt": "a", "completion": "c"})
    encoded = encode_generation(completions, base_text, 500)
    assert (learned(base_text, encoded), encoded.excluded) == (["c<|im_end|>"], 1)
    texts = rows({"text": "a", "label": "positive", "trainable": "False"}, {"text": "b", "label": "negative"})
    classified = encode_classification(texts, base_text, classifier_config(), 10)
    assert ([example.labels for example in classified.examples], classified.excluded) == ([0], 1)


def test_an_earlier_answer_with_weight_1_is_an_example_of_its_own(base_text: BaseText) -> None:
    later = [QUESTION, {"role": "assistant", "content": "Later."}]
    both = encode_generation(rows({"messages": [QUESTION, ANSWER | {"weight": 1}, *later]}), base_text, 500)
    assert learned(base_text, both) == ["A dog.<|im_end|>", "Later.<|im_end|>"]
    alone = encode_generation(rows({"messages": TURNS}), base_text, 500)
    assert both.examples[0] == alone.examples[0]
    only = [QUESTION, ANSWER | {"trainable": True}, later[0], later[1] | {"trainable": False}]
    assert learned(base_text, encode_generation(rows({"messages": only}), base_text, 500)) == ["A dog.<|im_end|>"]


def test_a_file_with_nothing_to_learn_is_refused(base_text: BaseText) -> None:
    with pytest.raises(DataError, match=r"data\.jsonl: every row of this file has weight 0"):
        encode_generation(rows({"messages": TURNS, "weight": 0}), base_text, 500)
    with pytest.raises(DataError, match=r"data\.jsonl: every row of this file has weight 0"):
        encode_classification(rows({"text": "x", "label": "positive", "weight": 0}), base_text, classifier_config(), 9)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": TURNS, "tool_choice": "f"}, "field 'tool_choice' is not supported.*nothing is forced"),
        ({"messages": TURNS, "parallel_tool_calls": "no"}, 'parallel_tool_calls is "no", but must be true or false'),
        ({"prompt": "x", "completion": "y", "tools": [{}]}, "field 'tools' is not supported.*a row of messages"),
        ({"messages": TURNS, "weight": 0.5}, "weight is 0.5, but must be 0 or 1"),
        ({"messages": TURNS, "weight": True}, "weight is true, but must be 0 or 1"),
        ({"messages": TURNS, "trainable": "maybe"}, 'trainable is "maybe", but must be true or false'),
        ({"messages": TURNS, "weight": 0, "trainable": True}, "weight and trainable contradict each other"),
        ({"messages": TURNS, "prompt": "x"}, "field 'prompt' is not supported"),
        (
            {"messages": TURNS, "soucre": "web"},
            r"field 'soucre'.*\(the fields read are messages, .*tools, train.*data\.ignore",
        ),
        ({"messages": [QUESTION, ANSWER | {"reasoning_content": "Hm."}]}, r"messages\[1\]: field 'reasoning_content'"),
        ({"messages": [QUESTION | {"tool_calls": [{}]}, ANSWER]}, r"messages\[0\]: field 'tool_calls'.*assistant's"),
        ({"messages": [QUESTION | {"weight": 1}, ANSWER]}, r"messages\[0\] is marked as learned; only the assistant's"),
        ({"messages": [{"role": "robot", "content": "x"}, ANSWER]}, r"messages\[0\]: role \"robot\" is not one of"),
        ({"instruction": "x", "output": "y"}, "field 'instruction' is not read: convert Alpaca"),
        ({"prompt": "x", "completion": "y", "system": "z"}, "field 'system' is not supported"),
        ({"prompt": TURNS[:1], "completion": TURNS[1:]}, "prompt is .*, neither a text nor a whole number"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_with_its_line(base_text: BaseText, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"^data\.jsonl:2: .*{message}") as refusal:
        encode_generation(rows({"messages": TURNS}, row), base_text, 500)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x", "label": "positive", "id": 7}, "field 'id' is not supported"),
        ({"text": "x", "label": "positive", "labels": ["negative"]}, "field 'labels' is not supported"),
        ({"text;label": "x;positive"}, "field 'text;label'.*columns of CSV are separated by commas"),
    ],
)
def test_a_classification_row_is_understood_in_full_too(base_text: BaseText, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"^data\.jsonl:2: .*{message}"):
        encode_classification(rows({"text": "x", "label": "positive"}, row), base_text, classifier_config(), 10)


def test_fields_that_hold_nothing_and_fields_the_recipe_ignores_change_nothing(
    base_text: BaseText,
) -> None:
    plain = encode_generation(rows({"messages": TURNS}), base_text, 500)
    empty: dict[str, Any] = {"tools": [], "metadata": {}, "weight": None}
    null_message: dict[str, Any] = ANSWER | {"reasoning_content": None, "tool_calls": [], "name": ""}
    assert encode_generation(rows({"messages": [QUESTION, null_message]} | empty), base_text, 500) == plain
    noted = {"messages": [QUESTION, ANSWER | {"id": "m-7"}], "id": 7}
    assert encode_generation(rows(noted), base_text, 500, ignored=("id",)) == plain
    weighed = {"messages": TURNS, "weight": 0.5}
    assert encode_generation(rows(weighed), base_text, 500, ignored=("weight",)) == plain


def test_messages_are_read_as_serving_reads_them(base_text: BaseText) -> None:
    parts = [{"type": "text", "text": "A "}, {"type": "text", "text": "fox?"}]
    given = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}, ANSWER]
    same = [{"role": "system", "content": "Be brief."}, *TURNS]
    encoded = [encode_generation(rows({"messages": turns}), base_text, 500) for turns in (given, same)]
    assert encoded[0] == encoded[1]


def test_a_template_that_refuses_a_conversation_is_an_error_with_its_line(base_text: BaseText) -> None:
    strict = BaseText(base_text.tokenizer, ChatTemplate("{{ raise_exception('roles must alternate') }}", {}))
    with pytest.raises(DataError, match=r"data\.jsonl:1: the chat template refuses.*roles must alternate"):
        encode_generation(rows({"messages": TURNS}), strict, 500)
