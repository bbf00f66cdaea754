"""Cells come back as they were written, with the line their row begins on."""

import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headmix_adapters.train.data.formats.delimited import csv_rows, tsv_rows

CELLS = st.lists(st.tuples(st.text('a,"\t\n\u2028é', max_size=5), st.text('b"\n', max_size=3)), min_size=1, max_size=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=CELLS, tabs=st.booleans(), mark=st.booleans())
def test_what_a_writer_writes_is_read(tmp_path: Path, cells: list[tuple[str, str]], tabs: bool, mark: bool) -> None:
    path = tmp_path / "a"
    with path.open("w", newline="", encoding="utf-8-sig" if mark else "utf-8") as file:
        writer = csv.writer(file, "excel-tab" if tabs else "excel")
        writer.writerows([("text", "label"), *cells])
    entries = list((tsv_rows if tabs else csv_rows)(path, 10_000))
    assert [entry.fields for entry in entries] == [{"text": text, "label": label} for text, label in cells]
    lines = path.read_bytes().decode("utf-8-sig").split("\r\n")
    heights = [1 + sum(cell.count("\n") for cell in row) for row in cells]
    assert len(lines) == len(cells) + 2
    assert [entry.line for entry in entries] == [2 + sum(heights[:number]) for number in range(len(cells))]


def test_rows_after_a_faulty_one_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b'text,label\nx,y\n"a"b,c\n\xff,y\nz,w\n' + b"x" * 200 + b",y\nlast,y\n")
    entries = list(csv_rows(path, 100))
    assert [(entry.line, bool(entry.fault)) for entry in entries] == [
        (2, False),
        (3, True),
        (4, True),
        (5, False),
        (6, True),
        (7, False),
    ]


def test_a_quote_that_is_not_closed_takes_no_more_than_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text('text,label\n"x,y\n' + "a,b\n" * 100)
    entries = list(csv_rows(path, 100))
    assert (entries[0].line, entries[0].fault) == (2, "longer than 100 characters (is a quote not closed?)")
    assert entries[-1].fields == {"text": "a", "label": "b"}


@pytest.mark.parametrize("limit", [10, 200_000])
def test_the_csv_modules_own_limit_is_as_it_was(tmp_path: Path, limit: int) -> None:
    usual = csv.field_size_limit()
    path = tmp_path / "a"
    path.write_text("text\n" + "x" * 150_000 + "\n")
    assert bool(next(csv_rows(path, limit)).fault) == (limit == 10)
    assert csv.field_size_limit() == usual
