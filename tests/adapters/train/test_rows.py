"""Data files become rows that know their line; what cannot be read is refused with file and line."""

from pathlib import Path

import pytest

from headmix_adapters.train.errors import DataError
from headmix_adapters.train.rows import read_rows


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
    assert rows[1].place.endswith("a.csv:4")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": \n', r"a\.jsonl:2: "),
        ("a.jsonl", '{"text": "x"}\n["x"]\n', r"a\.jsonl:2: .*object"),
        ("a.jsonl", "\n", "no rows"),
        ("a.jsonl", b'{"text": "\xff"}', "not UTF-8"),
        ("a.csv", "text,label\na,b\nc\n", r"a\.csv:3: expected 2 columns"),
        ("a.csv", "text,label\na,b,c\n", r"a\.csv:2: expected 2 columns"),
        ("a.csv", "text,label\n", "no rows"),
        ("a.txt", "x", r"\.jsonl or \.csv"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_rows(write(tmp_path, name, content))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: No such file"):
        read_rows(tmp_path / "gone.jsonl")
