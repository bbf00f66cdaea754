"""Which rows of held-out data an artifact shows as examples."""

from typing import Any

import pytest

from headmix_adapters.config import ClassifierConfig, ExamplePrompt
from headmix_adapters.train.data.example_prompts import MAX_CHARS, examples_from
from headmix_adapters.train.data.rows import Row

HEAD = ClassifierConfig(pooling="last", kind="linear", labels=("ham", "spam"))


def rows(*fields: dict[str, Any]) -> list[Row]:
    return [Row(f"data:{number}", one) for number, one in enumerate(fields, start=1)]


def chat(question: str, answer: str, *more: dict[str, str]) -> dict[str, Any]:
    return {"messages": [*more, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def test_the_first_short_text_of_each_label_in_the_labels_order() -> None:
    data = rows(
        {"text": "x" * (MAX_CHARS + 1), "label": "ham"},
        {"text": "WIN", "label": " spam "},
        {"text": "WIN MORE", "label": "spam"},
        {"text": "Hello", "label": "ham"},
    )
    assert examples_from(data, HEAD) == (
        ExamplePrompt(prompt="Hello", expect="ham"),
        ExamplePrompt(prompt="WIN", expect="spam"),
    )


def test_the_first_questions_with_their_answers() -> None:
    data = rows(
        chat("asked in a system's presence", "no", {"role": "system", "content": "Be brief."}),
        chat("Who?", "Me."),
        {"prompt": "Once", "completion": " upon"},
        chat("Third?", "No."),
    )
    assert examples_from(data, None) == (
        ExamplePrompt(prompt="Who?", expect="Me.", chat=True),
        ExamplePrompt(prompt="Once", expect=" upon"),
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "evil\x1b[2J", "label": "ham"},
        {"text": " ", "label": "ham"},
        {"text": 3, "label": "ham"},
        {"text": "x", "label": ["ham"]},
        {"text": "x", "label": "eggs"},
        {"text": "x"},
    ],
)
def test_a_row_that_cannot_be_shown_is_passed_over(fields: dict[str, Any]) -> None:
    assert examples_from(rows(fields), HEAD) == ()


@pytest.mark.parametrize(
    "fields",
    [{"messages": "x"}, {"messages": [1, 2]}, {"messages": []}, chat("", "x"), {"prompt": "x"}, chat("a\x00", "b"), {}],
)
def test_a_conversation_of_another_form_is_passed_over(fields: dict[str, Any]) -> None:
    assert examples_from(rows(fields), None) == ()


def test_of_many_labels_a_few_are_shown_and_of_other_problems_none() -> None:
    names = tuple(f"l{number}" for number in range(9))
    data = rows(*({"text": f"text {name}", "label": name} for name in names))
    many = ClassifierConfig(pooling="last", kind="linear", labels=names)
    assert [example.expect for example in examples_from(data, many)] == ["l0", "l1", "l2", "l3"]
    several = ClassifierConfig(pooling="last", kind="linear", labels=names, problem="multi_label")
    assert examples_from(data, several) == ()
