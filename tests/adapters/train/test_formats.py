"""The same data gives the same examples, whether written as CSV or as JSON Lines."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.adapters.artifacts import classifier_config
from headmix_adapters.config import ClassifierConfig
from headmix_adapters.text.base_text import BaseText
from headmix_adapters.train.data.examples import Encoded, encode_classification, encode_generation
from headmix_adapters.train.data.rows import Row, read_rows
from headmix_adapters.train.errors import DataError

Cell = str | int
LABELS = ("0", "1", "ham", "two words", 'quote"d, and\nbroken')
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXTS = st.text(CHARACTERS, min_size=1, max_size=30).filter(str.strip)
NUMBERS = st.integers(min_value=-(10**30), max_value=10**30)
MARKS = st.sampled_from([{}, {"weight": 1}, {"weight": 0}, {"trainable": "true"}, {"weight": ""}])


def in_both(rows: Sequence[Mapping[str, Cell]], *, mark: bool) -> list[list[Row]]:
    """Write the rows to a file in each format and read them back; `mark` adds a byte order mark."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    encoding = "utf-8-sig" if mark else "utf-8"
    with TemporaryDirectory() as folder:
        lines, table = Path(folder, "a.jsonl"), Path(folder, "a.csv")
        lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding=encoding)
        with table.open("w", encoding=encoding, newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        return [read_rows(lines), read_rows(table)]


def outcome(rows: Sequence[Row], base_text: BaseText, classifier: ClassifierConfig | None) -> object:
    """Return the examples, or the row and the fault found in it."""
    numbers = {row.place: number for number, row in enumerate(rows)}
    try:
        encoded: Encoded = (
            encode_generation(rows, base_text, 40)
            if classifier is None
            else encode_classification(rows, base_text, classifier, 12)
        )
    except DataError as error:
        found = [number for place, number in numbers.items() if str(error).startswith(f"{place}: ")]
        return found, str(error).rpartition(": ")[2] if found else "whole file"
    return encoded


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.builds(
            lambda text, label, mark: {"text": text, "label": label} | mark,
            TEXTS | NUMBERS,
            st.sampled_from([*LABELS, 0, 1, 2]),
            MARKS,
        ),
        min_size=1,
        max_size=6,
    ),
    mark=st.booleans(),
)
def test_classified_texts_are_alike_in_both_formats(
    base_text: BaseText, rows: list[dict[str, Cell]], mark: bool
) -> None:
    from_lines, from_table = in_both(rows, mark=mark)
    labels = classifier_config(*LABELS)
    assert outcome(from_lines, base_text, labels) == outcome(from_table, base_text, labels)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.builds(
            lambda prompt, completion, mark: {"prompt": prompt, "completion": completion} | mark,
            TEXTS | NUMBERS,
            TEXTS | NUMBERS,
            MARKS,
        ),
        min_size=1,
        max_size=6,
    ),
    mark=st.booleans(),
)
def test_completions_are_alike_in_both_formats(base_text: BaseText, rows: list[dict[str, Cell]], mark: bool) -> None:
    from_lines, from_table = in_both(rows, mark=mark)
    assert outcome(from_lines, base_text, None) == outcome(from_table, base_text, None)


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.integers() | st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_numbers_to_be_learned_are_equal_in_both_formats(base_text: BaseText, values: list[float]) -> None:
    rows: list[dict[str, Cell]] = [{"text": "a fox", "label": repr(value)} for value in values]
    _, from_table = in_both(rows, mark=False)
    from_lines = [
        Row(row.place, {"text": "a fox", "label": value}) for row, value in zip(from_table, values, strict=True)
    ]
    head = classifier_config("score", problem="regression")
    assert outcome(from_lines, base_text, head) == outcome(from_table, base_text, head)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "1_000", "", "high"])
def test_no_number_is_no_label_in_either_format(base_text: BaseText, value: str) -> None:
    head = classifier_config("score", problem="regression")
    for read in in_both([{"text": "x", "label": value}], mark=False):
        with pytest.raises(DataError, match=r"a\.\w+:\d: label is .*, not a finite number"):
            encode_classification(read, base_text, head, 10)


def test_sets_of_labels_are_lists_in_one_format_and_joined_in_the_other(base_text: BaseText) -> None:
    head = classifier_config("0", "1", "ham", problem="multi_label")
    in_lists = [[0, "ham"], [], ["1"], 1]
    joined = ["0|ham", "", "1", "1"]
    encoded = [
        encode_classification([Row("a:1", {"text": "x", "labels": labels}) for labels in form], base_text, head, 10)
        for form in (in_lists, joined)
    ]
    assert encoded[0] == encoded[1]
