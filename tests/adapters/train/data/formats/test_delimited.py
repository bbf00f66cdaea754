"""Cells come back as they were written, with the line their row begins on."""

import csv
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headmix_adapters.train.data.formats.delimited import csv_rows, tsv_rows

CELLS = st.lists(st.tuples(st.text('a,"\t\n\u2028é', max_size=5), st.text('b"\n', max_size=3)), min_size=1, max_size=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=CELLS, mark=st.booleans())
def test_what_a_writer_of_csv_writes_is_read(tmp_path: Path, cells: list[tuple[str, str]], mark: bool) -> None:
    path = tmp_path / "a"
    with path.open("w", newline="", encoding="utf-8-sig" if mark else "utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([("text", "label"), *cells])
    entries = list(csv_rows(path, 10_000))
    assert [entry.fields for entry in entries] == [{"text": text, "label": label} for text, label in cells]
    lines = path.read_bytes().decode("utf-8-sig").split("\r\n")
    heights = [1 + sum(cell.count("\n") for cell in row) for row in cells]
    assert len(lines) == len(cells) + 2
    assert [entry.line for entry in entries] == [2 + sum(heights[:number]) for number in range(len(cells))]


LINES = st.lists(
    st.tuples(st.text('a,"\u2028é ', min_size=1, max_size=5), st.text('b"', max_size=3)), min_size=1, max_size=5
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=LINES, quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_what_a_writer_of_tsv_writes_is_read_a_row_a_line(
    tmp_path: Path, cells: list[tuple[str, str]], quoting: Literal[0, 1]
) -> None:
    path = tmp_path / "a"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, "excel-tab", quoting=quoting).writerows([("text", "label"), *cells])
    entries = list(tsv_rows(path, 10_000))
    assert [entry.fields for entry in entries] == [{"text": text, "label": label} for text, label in cells]
    assert [entry.line for entry in entries] == list(range(2, len(cells) + 2))


def test_quotes_in_tsv_that_do_not_enclose_a_cell_are_the_texts_own_and_join_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text('text\tlabel\n"Hello\t0\nworld"\t1\n"Hello" he said "bye"\t1\n\n"\t0\n"a ""b"""\t"1"\n')
    entries = list(tsv_rows(path, 100))
    assert [(entry.line, entry.fields and tuple(entry.fields.values())) for entry in entries] == [
        (2, ('"Hello', "0")),
        (3, ('world"', "1")),
        (4, ('"Hello" he said "bye"', "1")),
        (6, ('"', "0")),
        (7, ('a "b"', "1")),
    ]


@pytest.mark.parametrize("row", ['"a\tb"\t1', '"a\nb"\t1', '1\t"a\nb"'])
def test_a_cell_of_tsv_with_a_tab_or_a_line_break_is_refused_with_its_line(tmp_path: Path, row: str) -> None:
    path = tmp_path / "a"
    path.write_text(f"text\tlabel\n{row}\nx\ty\n")
    *entries, last = tsv_rows(path, 100)
    faults = [entry.fault for entry in entries if entry.fault]
    assert faults
    assert all("a cell of TSV holds neither tabs nor line breaks" in fault for fault in faults)
    assert last.fields == {"text": "x", "label": "y"}


def test_a_fault_in_a_line_of_tsv_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"text\tlabel\n\xff\ty\n" + b"x" * 200 + b"\ty\nlast\ty\n")
    assert [(entry.line, bool(entry.fault)) for entry in tsv_rows(path, 100)] == [(2, True), (3, True), (4, False)]
    path.write_bytes(b"text\ttext\na\tb\n")
    assert [(entry.line, entry.fault) for entry in tsv_rows(path, 100)] == [(1, "column 'text' appears twice")]


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
