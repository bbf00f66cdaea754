"""Data files become rows that know their line; unreadable ones are refused with file and line."""

import csv
from pathlib import Path

import pytest

from headmix_adapters.train.data.formats import entry
from headmix_adapters.train.data.rows import read_rows
from headmix_adapters.train.errors import DataError


def write(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_json_lines_keep_their_line_numbers_across_blank_lines(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path, "a.jsonl", '{"text": "one"}\n\n{"text": "zwei"}\n'))
    assert [(row.place.rpartition(":")[2], row.fields["text"]) for row in rows] == [("1", "one"), ("3", "zwei")]


def test_csv_reads_quoted_lines_by_its_header(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path, "a.csv", '\ufefftext,label\n"a, b\nc",up\nd,down\n'))
    assert [row.fields for row in rows] == [{"text": "a, b\nc", "label": "up"}, {"text": "d", "label": "down"}]
    assert [row.place.rpartition(":")[2] for row in rows] == ["2", "4"]


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    (row,) = read_rows(write(tmp_path, "a.JSONL", '\ufeff{"text": "one"}\r\n\r\n'))
    assert row.fields == {"text": "one"}


def test_a_json_file_is_an_array_of_rows_or_one_row_a_line(tmp_path: Path) -> None:
    array = read_rows(write(tmp_path, "a.json", '\ufeff [\n{"text": "one, [two]"},\n {"text": "\\"}"}\n]\n'))
    lines = read_rows(write(tmp_path, "b.json", '\n{"text": "one, [two]"}\n{"text": "\\"}"}\n'))
    assert [row.fields for row in array] == [row.fields for row in lines] == [{"text": "one, [two]"}, {"text": '"}'}]
    assert [row.place.rpartition(":")[2] for row in (*array, *lines)] == ["2", "3", "2", "3"]


def test_tsv_has_tabs_where_csv_has_commas(tmp_path: Path) -> None:
    (row,) = read_rows(write(tmp_path, "a.tsv", 'text\tlabel\n"a, b"\tup\n'))
    assert row.fields == {"text": "a, b", "label": "up"}


def test_lines_may_end_as_on_any_system(tmp_path: Path) -> None:
    for end in ("\n", "\r\n", "\r"):
        rows = read_rows(write(tmp_path, "a.jsonl", f'{{"a": 1}}{end}{end}{{"a": 2}}{end}'))
        assert [row.place.rpartition(":")[2] for row in rows] == ["1", "3"]


def test_a_field_may_be_longer_than_the_csv_module_thinks(tmp_path: Path) -> None:
    usual = csv.field_size_limit()
    (row,) = read_rows(write(tmp_path, "a.csv", f"text\n{'word ' * 30_000}\n"))
    assert len(row.fields["text"]) == 150_000 > usual
    assert csv.field_size_limit() == usual


def test_separators_that_are_no_ends_of_lines_stay_in_the_text(tmp_path: Path) -> None:
    (row,) = read_rows(write(tmp_path, "a.jsonl", '{"text": "one\u2028two\u0085three"}\n'))
    assert row.fields == {"text": "one\u2028two\u0085three"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": \n', r"a\.jsonl:2: "),
        ("a.jsonl", '{"text": "x"}\n["x"]\n', r"a\.jsonl:2: .*object"),
        ("a.jsonl", "\n", "no rows"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}', r"a\.jsonl:2: not UTF-8"),
        ("a.jsonl", '{"text": "x"}'.encode("utf-16"), "not UTF-8 text but UTF-16"),
        ("a.jsonl", '{"text": "x", "text": "y"}', r"a\.jsonl:1: .*\"text\" appears twice"),
        ("a.jsonl", '{"text": "\\ud800"}', r"a\.jsonl:1: .*lone surrogate"),
        ("a.jsonl", '{"label": NaN}', r"a\.jsonl:1: .*NaN"),
        ("a.jsonl", '{"a": ' + "[" * 100_000, r"a\.jsonl:1: .*nested too deeply"),
        ("a.jsonl", '{"a": ' + "9" * 5_000 + "}", r"a\.jsonl:1: "),
        ("a.csv", "text,label\na,b\nc\n", r"a\.csv:3: expected 2 columns"),
        ("a.csv", "text,label\na,b,c\n", r"a\.csv:2: expected 2 columns"),
        ("a.csv", "text,text\na,b\n", r"a\.csv:1: column 'text' appears twice"),
        ("a.csv", 'text,label\na,b\n\n"c\n', r"a\.csv:4: unexpected end of data"),
        ("a.csv", b"text,label\na,\xff\n", r"a\.csv:2: not UTF-8"),
        ("a.csv", "text,label\n", "no rows"),
        ("a.tsv", "text\tlabel\na,b\n", r"a\.tsv:2: expected 2 columns, found 1"),
        ("a.json", "7", "holds an array of rows, or one row a line"),
        ("a.json", '[{"a": 1},\n\n {"a": 1}, 7]', r"a\.json:3: not a JSON object"),
        ("a.json", '[{"a": 1},\n{"a": ', r"a\.json:2: the array has no end"),
        ("a.json", '[{"a": 1}]\n]', r"a\.json:2: something follows the end"),
        ("a.json", '[\n{"a": 1}}', r"a\.json:2: a closing }"),
        ("a.json", '[{"a": 1},]', r"a\.json:1: not a JSON object"),
        ("a.json", b'[{"a": 1},\n{"a": "\xff"}]', r"a\.json:2: not UTF-8"),
        ("a.json", "[]", "no rows"),
        ("a.jsonl", '[{"text": "x"}]', r"a\.jsonl:1: .*one array ends in \.json"),
        ("a.jsonl", '{"text": "x"}'.encode("utf-16-le"), "NUL bytes"),
        ("a.jsonl", '{"text": "x"}'.encode("utf-32"), "not UTF-8 text but UTF-32"),
        ("a.csv", "text,label\nnaïve,b\n".encode("latin-1"), r"a\.csv:2: not UTF-8 text \(byte 0xef\); save"),
        ("a.csv", b"PK\x03\x04rest", "a zip archive"),
        ("a.jsonl", b"\x1f\x8brest", "a gzip file"),
        ("a.txt", "x", r"data files end in \.jsonl, .* or \.parquet"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_rows(write(tmp_path, name, content))


def test_a_row_of_more_than_four_million_characters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:2: longer than 4,194,304 characters"):
        read_rows(write(tmp_path, "a.jsonl", '{"a": "x"}\n{"a": "' + "x" * 5_000_000 + '"}'))


@pytest.mark.parametrize(
    ("name", "head", "line"),
    [("a.jsonl", '{"a": "x"}\n', 5), ("a.csv", "a\nx\n", 6), ("a.csv", "", 4), ("a.tsv", "a\nx\n", 6)],
)
def test_blank_lines_are_passed_over_only_up_to_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, head: str, line: int
) -> None:
    monkeypatch.setattr(entry, "MAX_BLANK_ROWS", 3)
    assert len(read_rows(write(tmp_path, name, (head or "a\nx\n") + "\n" * 3))) == 1
    with pytest.raises(DataError, match=rf"a\.\w+:{line}: more than 3 blank lines"):
        read_rows(write(tmp_path, name, head + "\n" * 4 + "a\n"))


def test_a_column_that_appears_twice_is_found_among_very_many(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(200_000)]
    with pytest.raises(DataError, match=r"a\.csv:1: column 'c0' appears twice"):
        read_rows(write(tmp_path, "a.csv", ",".join([*names, "c0"]) + "\n"))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: No such file"):
        read_rows(tmp_path / "gone.jsonl")
