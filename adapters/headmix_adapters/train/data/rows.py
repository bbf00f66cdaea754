"""Data files as rows with their locations: JSON Lines or CSV, by file extension. Knows neither tasks nor tokens.

Both formats carry the same data: values that a CSV cell holds as text may be text in JSON too. Anything a reader would
drop silently (a duplicate key or column, half a character) is refused.
"""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headmix_adapters.artifact.checks.strict_json import parse_strict
from headmix_adapters.train.errors import DataError

# The csv module stores its limit in a C long, which has 32 bits on some platforms.
_LARGEST_FIELD = min(sys.maxsize, 2**31 - 1)
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Row:
    """One row's fields and where it begins, as `file:line`, for error messages."""

    place: str
    fields: dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Read every row of a `.jsonl` or `.csv` file in order; blank lines are skipped, a byte order mark is allowed.

    Raises:
        DataError: no such file, another extension, no rows, or a line that is not an object; file and line are named.
    """
    readers = {".jsonl": _json_lines, ".csv": _csv_lines}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: data files end in .jsonl or .csv")
    try:
        text = _decoded(path, path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    rows = list(reader(path, text))
    if not rows:
        raise DataError(f"{path}: no rows")
    return rows


def _decoded(path: Path, data: bytes) -> str:
    if data.startswith(_UTF_16_MARKS):
        raise DataError(f"{path}: not UTF-8 text but UTF-16; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8 text ({error.reason})") from error


def _json_lines(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            fields = parse_strict(line.encode())
        except ValueError as error:
            raise DataError(f"{place}: not a JSON object: {error}") from error
        if not isinstance(fields, dict):
            raise DataError(f"{place}: not a JSON object")
        yield Row(place, fields)


def _csv_lines(path: Path, text: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: Sequence[str] | None = None
    first = 1
    with _long_fields():
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise DataError(f"{path}:{first}: {error}") from error
            if cells is None:
                return
            place, first = f"{path}:{first}", reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = _header(place, cells)
            else:
                yield Row(place, _named(place, header, cells))


def _header(place: str, names: Sequence[str]) -> Sequence[str]:
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{place}: column {name!r} appears twice")
    return names


def _named(place: str, header: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    if len(cells) != len(header):
        raise DataError(f"{place}: expected {len(header)} columns, found {len(cells)}")
    return dict(zip(header, cells, strict=True))


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lift the csv module's limit of 131,072 characters per field, which is global to the process."""
    usual = csv.field_size_limit(_LARGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(usual)
