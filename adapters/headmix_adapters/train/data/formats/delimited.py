"""CSV and TSV: cells named by the first row. Each row is read in bounded memory, an unclosed quote too."""

import csv
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

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


def _rows(delimiter: str, path: Path, longest: int) -> Iterator[Entry]:
    with open_text(path, newline="") as file:
        lines = _Lines(file, longest)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header: Sequence[str] | None = None
        while True:
            first = lines.begin_row()
            cells, fault = _next(reader, longest)
            if cells is None and not fault:
                return
            if header is None:
                fault = fault or _header_fault(cells or ())
                if fault:
                    yield Entry(first, None, fault)
                    return
                header = cells or None
            elif fault:
                yield Entry(first, None, fault)
            elif cells:
                yield _named(first, header, cells)


csv_rows = partial(_rows, ",")
tsv_rows = partial(_rows, "\t")


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
    return next((f"column {name!r} appears twice" for name in names if names.count(name) > 1), "")


def _named(line: int, header: Sequence[str], cells: Sequence[str]) -> Entry:
    if len(cells) != len(header):
        return Entry(line, None, f"expected {len(header)} columns, found {len(cells)}")
    fields: dict[str, Any] = dict(zip(header, cells, strict=True))
    return Entry(line, fields)
