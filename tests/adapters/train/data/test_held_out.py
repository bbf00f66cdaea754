"""Held-out rows are the same each time, cover every label, and never occur in training too."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headmix_adapters.train.data.held_out import rows_digest, split_rows
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.errors import DataError


def texts(*labelled: tuple[str, str]) -> list[Row]:
    return [Row(f"d.jsonl:{number}", {"text": text, "label": label}) for number, (text, label) in enumerate(labelled)]


def test_each_label_is_held_out_by_its_share() -> None:
    rows = texts(*((f"text {number}", "rare" if number % 10 == 0 else "often") for number in range(200)))
    train, held_out = split_rows(rows, 0.1, seed=1)
    assert Counter(row.fields["label"] for row in held_out) == {"often": 18, "rare": 2}
    assert sorted(map(id, train + held_out)) == sorted(map(id, rows))
    assert split_rows(rows, 0.1, seed=1) == (train, held_out)
    assert split_rows(rows, 0.1, seed=2) != (train, held_out)


def test_rows_are_the_same_in_any_order_and_others_are_not() -> None:
    rows = texts(("a", "x"), ("b", "y"))
    assert rows_digest(rows) == rows_digest(rows[::-1])
    assert rows_digest(rows) == rows_digest([Row("e.csv:9", dict(reversed(row.fields.items()))) for row in rows])
    assert rows_digest(rows) != rows_digest(rows[:1])
    assert rows_digest(rows) != rows_digest(texts(("a", "x"), ("b", "x")))
    assert rows_digest(rows) != rows_digest([*rows, rows[0]])


@given(
    rows=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xy")), min_size=2, max_size=40),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 3),
)
def test_no_text_is_on_both_sides_and_neither_side_is_empty(
    rows: list[tuple[str, str]], share: float, seed: int
) -> None:
    made = texts(*rows)
    if len({text for text, _ in rows}) == 1:
        with pytest.raises(DataError, match=r"d\.jsonl: all rows ask the same.*validation_file of a job"):
            split_rows(made, share, seed)
        return
    train, held_out = split_rows(made, share, seed)
    assert train
    assert held_out
    assert not {row.fields["text"] for row in train} & {row.fields["text"] for row in held_out}
    assert len(train) + len(held_out) == len(made)


def test_conversations_with_one_question_stay_together() -> None:
    def chat(question: str, answer: str) -> dict[str, object]:
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return {"messages": turns}

    rows = [Row(f"d:{n}", chat(f"q{n // 4}", f"a{n}")) for n in range(40)]
    rows += [Row(f"d:p{n}", {"prompt": f"p{n // 4}", "completion": f"a{n}"}) for n in range(40)]
    _, held_out = split_rows(rows, 0.2, seed=5)
    assert len(held_out) == 16
    assert len({str(row.fields.get("prompt") or row.fields["messages"][0]) for row in held_out}) == 4


def test_blanks_around_a_label_do_not_make_it_another() -> None:
    labels = ["rare", " rare", "rare ", *["often"] * 27]
    _, held_out = split_rows(texts(*((f"text {number}", label) for number, label in enumerate(labels))), 0.34, seed=1)
    assert Counter(row.fields["label"].strip() for row in held_out)["rare"] == 1
