"""Rows become tokens as the server will see them; only the answer is learned; nothing is cut silently."""

from typing import Any

import pytest

from harness.adapters.artifacts import classifier_config
from headmix_adapters.config import Problem
from headmix_adapters.text.base_text import BaseText
from headmix_adapters.train.data.examples import IGNORED, Example, encode_classification, encode_generation
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.errors import DataError

TURNS = [{"role": "user", "content": "A fox?"}, {"role": "assistant", "content": "A dog."}]


def rows(*fields: dict[str, Any]) -> list[Row]:
    return [Row(f"data.jsonl:{number}", row) for number, row in enumerate(fields, start=1)]


def answer(base_text: BaseText, example: Example) -> str:
    assert isinstance(example.labels, list)
    kept = [label for label in example.labels if label != IGNORED]
    assert kept == example.input_ids[len(example.input_ids) - len(kept) :]
    return base_text.tokenizer.decode(kept, skip_special_tokens=False)


def test_of_a_conversation_only_the_last_answer_and_its_end_are_learned(base_text: BaseText) -> None:
    longer = [*TURNS, {"role": "user", "content": "And a river?"}, {"role": "assistant", "content": "Stops."}]
    encoded = encode_generation(rows({"messages": TURNS}, {"messages": longer}), base_text, 500)
    assert [answer(base_text, example) for example in encoded.examples] == ["A dog.<|im_end|>", "Stops.<|im_end|>"]
    assert base_text.chat_template is not None
    prompt = base_text.chat_template.render(TURNS[:1])
    shown = base_text.tokenizer.decode(encoded.examples[0].input_ids, skip_special_tokens=False)
    assert shown == f"{prompt}A dog.<|im_end|>"
    assert (encoded.truncated, encoded.dropped) == (0, 0)


def test_a_completion_is_encoded_apart_from_its_prompt_and_closed(base_text: BaseText) -> None:
    (example,) = encode_generation(rows({"prompt": "The qu", "completion": "ick brown"}), base_text, 500).examples
    assert example.input_ids == base_text.tokenizer.encode("The qu") + base_text.tokenizer.encode("ick brown") + [2]
    assert answer(base_text, example) == "ick brown<|im_end|>"


def test_long_examples_lose_their_end_and_are_counted(base_text: BaseText) -> None:
    prompt, completion = "The lazy dog", "jumps over the fox"
    prompt_length = len(base_text.tokenizer.encode(prompt))
    row = rows({"prompt": prompt, "completion": completion})
    cut = encode_generation(row, base_text, prompt_length + 2)
    assert (len(cut.examples), cut.truncated, cut.dropped, cut.tokens) == (1, 1, 0, prompt_length + 2)
    assert len(answer(base_text, cut.examples[0])) > 0
    short = rows({"prompt": "The", "completion": "x"})
    some_left = encode_generation(row + short, base_text, prompt_length)
    assert (len(some_left.examples), some_left.truncated, some_left.dropped) == (1, 0, 1)
    with pytest.raises(DataError, match="no answer of this file fits"):
        encode_generation(row, base_text, prompt_length)
    text = encode_classification(rows({"text": prompt, "label": "positive"}), base_text, classifier_config(), 2)
    assert (len(text.examples[0].input_ids), text.truncated) == (2, 1)


@pytest.mark.parametrize(
    ("problem", "row", "expected"),
    [
        ("single_label", {"text": "x", "label": "b"}, 1),
        ("multi_label", {"text": "x", "labels": ["c", "a"]}, (1.0, 0.0, 1.0)),
        ("multi_label", {"text": "x", "labels": "b|c"}, (0.0, 1.0, 1.0)),
        ("multi_label", {"text": "x", "labels": []}, (0.0, 0.0, 0.0)),
        ("single_label", {"text": "x", "label": " b\n"}, 1),
        ("multi_label", {"text": "x", "labels": [" c", "a "]}, (1.0, 0.0, 1.0)),
        ("multi_label", {"text": "x", "labels": " a | b| "}, (1.0, 1.0, 0.0)),
        ("regression", {"text": "x", "label": "0.5"}, (0.5,)),
    ],
)
def test_labels_take_the_form_of_their_problem(
    base_text: BaseText, problem: Problem, row: dict[str, Any], expected: object
) -> None:
    names = ("score",) if problem == "regression" else ("a", "b", "c")
    encoded = encode_classification(rows(row), base_text, classifier_config(*names, problem=problem), 10)
    assert encoded.examples[0].labels == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x", "label": "neutral"}, "'neutral' is not among classifier.labels"),
        ({"text": "x"}, r"field label is missing \(fields: text\)"),
        ({"text": "", "label": "positive"}, "text is empty"),
        ({"text": "x", "label": " "}, "label is empty"),
        ({"text": None, "label": "positive"}, "text is null, neither a text nor a whole number"),
        ({"text": "x", "label": 3}, "label '3' is not among classifier.labels"),
        ({"text": "x", "label": 1.0}, "label is 1.0, neither a text nor a whole number"),
        ({"text": "x", "label": True}, "label is true, neither a text nor a whole number"),
    ],
)
def test_a_bad_classification_line_is_named(base_text: BaseText, row: dict[str, Any], message: str) -> None:
    good = {"text": "x", "label": "positive"}
    with pytest.raises(DataError, match=rf"data\.jsonl:2: .*{message}"):
        encode_classification(rows(good, row), base_text, classifier_config(), 10)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": TURNS[:1]}, "assistant's answer"),
        ({"messages": TURNS[1:]}, "assistant's answer"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\]: field content is missing"),
        ({"messages": '[{"role": "user"}]'}, "messages are a list"),
        ({"messages": ["hello"]}, r"messages\[0\] is not an object"),
        ({"messages": [{"role": "human", "content": "x"}, TURNS[1]]}, r'messages\[0\]: role "human" is not one of'),
        ({"messages": [TURNS[0], {"role": "assistant", "content": None}]}, r"messages\[1\]: content is null"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, TURNS[1]]}, r"content\[0\] is not a text"),
        ({"messages": []}, "neither messages nor prompt and completion"),
        ({"prompt": "x"}, r"field completion is missing \(fields: prompt\)"),
        ({"prompt": "x", "completion": ""}, "completion is empty"),
        ({"prompt": "", "completion": "x"}, "no tokens"),
    ],
)
def test_a_bad_generation_line_is_named(base_text: BaseText, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"data\.jsonl:2: .*{message}"):
        encode_generation(rows({"messages": TURNS}, row), base_text, 100)
