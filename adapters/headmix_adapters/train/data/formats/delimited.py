"""CSV and TSV: cells named by the first row. Each row is read in bounded memory, an unclosed quote too.

A row of CSV ends where its quotes say. A row of TSV is a line: public TSV files hold texts that begin with a quote and
don't end with one, and following such quotes would join rows.
"""

import csv
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from headmix_adapters.artifact.faults import quoted
from headmix_adapters.train.data.formats import entry
from headmix_adapters.train.data.formats.entry import Entry
from headmix_adapters.train.data.formats.text_lines import open_text, text_lines

_FIELD_LIMIT = threading.Lock()


class _LineError(Exception):
    """A line that no row can contain."""


class _Lines:
    """The lines of a file as the csv module takes them; refuses to go on within a row that is too long."""

    def __init__(self, file: TextIO, longest: int) -> None:
        self._lines = text_lines(file, longest)
        self._longest = longest
        self._length = 0
        self.number = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number = line.number
        if line.fault:
            raise _LineError(line.fault)
        self._length += len(line.text)
        if self._length > self._longest:
            raise _LineError(f"longer than {self._longest:,} characters (is a quote not closed?)")
        return line.text

    def begin_row(self) -> int:
        """Return the line on which the next row begins."""
        self._length = 0
        return self.number + 1


def csv_rows(path: Path, longest: int) -> Iterator[Entry]:
    """Yield the rows of a CSV file; a quoted cell may hold commas and line breaks.

    Raises:
        UnreadableError: the file is not text.
    """
    with open_text(path, newline="") as file:
        lines = _Lines(file, longest)
        reader = csv.reader(lines, strict=True)
        header: Sequence[str] | None = None
        blank = 0
        while True:
            first = lines.begin_row()
            cells, fault = _next(reader, longest)
            if cells is None and not fault:
                return
            if not cells and not fault:
                if (blank := blank + 1) > entry.MAX_BLANK_ROWS:
                    yield entry.too_many_blank(first)
                    return
            elif header is None:
                fault = fault or _header_fault(cells or ())
                if fault:
                    yield Entry(first, None, fault)
                    return
                header = cells or None
            elif fault:
                yield Entry(first, None, fault)
            elif cells:
                yield _named(first, header, cells)


def tsv_rows(path: Path, longest: int) -> Iterator[Entry]:
    """Yield the rows of a TSV file, one a line; quotes count only if they enclose a whole cell.

    Raises:
        UnreadableError: the file is not text.
    """
    with open_text(path, newline="") as file:
        header: Sequence[str] | None = None
        blank = 0
        for line in text_lines(file, longest):
            text = line.text.rstrip("\r\n")
            if not line.fault and not text:
                if (blank := blank + 1) > entry.MAX_BLANK_ROWS:
                    yield entry.too_many_blank(line.number)
                    return
                continue
            cells = [_unquoted(cell) for cell in text.split("\t")]
            if header is None:
                if fault := line.fault or _header_fault(cells):
                    yield Entry(line.number, None, fault)
                    return
                header = cells
            elif line.fault:
                yield Entry(line.number, None, line.fault)
            else:
                yield _named(line.number, header, cells, "; a cell of TSV holds neither tabs nor line breaks")


def _unquoted(cell: str) -> str:
    """Return a cell without the quotes around all of it; as it is if they are the text's own."""
    inner = cell[1:-1].replace('""', "")
    enclosed = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner
    return cell[1:-1].replace('""', '"') if enclosed else cell


def _next(reader: Iterator[list[str]], longest: int) -> tuple[Sequence[str] | None, str]:
    """Return the next row's cells, None at the end of the file or with a fault."""
    with _FIELD_LIMIT:  # the csv module has one limit for the process, by default 131,072 characters
        usual = csv.field_size_limit(longest + 1)
        try:
            return next(reader, None), ""
        except (csv.Error, _LineError) as error:
            return None, str(error)
        finally:
            csv.field_size_limit(usual)


def _header_fault(names: Sequence[str]) -> str:
    twice = entry.named_twice(names)
    return "" if twice is None else f"column {quoted(twice)!r} appears twice"


def _named(line: int, header: Sequence[str], cells: Sequence[str], hint: str = "") -> Entry:
    if len(cells) != len(header):
        return Entry(line, None, f"expected {len(header)} columns, found {len(cells)}{hint}")
    fields: dict[str, Any] = dict(zip(header, cells, strict=True))
    return Entry(line, fields)
