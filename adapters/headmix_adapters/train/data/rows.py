"""Data files as rows with their locations, by file extension. Knows neither tasks nor tokens.

All formats carry the same data: values that a CSV cell holds as text may be text in JSON too. Anything a reader would
drop silently (a duplicate key or column, half a character) is refused.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from headmix_adapters.train.data.formats.delimited import csv_rows, tsv_rows
from headmix_adapters.train.data.formats.entry import MAX_ROW_CHARS, Entry, FormatReader, UnreadableError
from headmix_adapters.train.data.formats.json_rows import json_file, json_lines
from headmix_adapters.train.data.formats.parquet import parquet_rows
from headmix_adapters.train.errors import DataError

FileFormat = Literal["jsonl", "json", "csv", "tsv", "parquet"]
_READERS: Mapping[str, FormatReader] = MappingProxyType(
    {"jsonl": json_lines, "json": json_file, "csv": csv_rows, "tsv": tsv_rows, "parquet": parquet_rows}
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row's fields and where it begins, as `file:line`, for error messages."""

    place: str
    fields: dict[str, Any]


def read_entries(path: Path, kind: FileFormat | None = None, longest: int = MAX_ROW_CHARS) -> Iterator[Entry]:
    """Yield every row of a file in order, faulty ones too, in bounded memory; blank lines are skipped.

    `kind` is the format if the file's name does not end in it; `longest` is the largest number of characters of a row.

    Raises:
        UnreadableError: no such file, an unknown extension, or not a file of this format.
    """
    reader = _READERS.get(kind or path.suffix.lower().removeprefix("."))
    if reader is None:
        *others, last = (f".{name}" for name in _READERS)
        raise UnreadableError(f"data files end in {', '.join(others)} or {last}")
    try:
        yield from reader(path, longest)
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error


def read_rows(path: Path) -> list[Row]:
    """Read every row of a data file in order.

    Raises:
        DataError: as `read_entries`; no rows, or a line that is not a row; file and line are named.
    """
    rows = []
    try:
        for entry in read_entries(path):
            if entry.fields is None:
                raise DataError(f"{path}:{entry.line}: {entry.fault}")
            rows.append(Row(f"{path}:{entry.line}", entry.fields))
    except UnreadableError as error:
        raise DataError(f"{path}: {error}") from error
    if not rows:
        raise DataError(f"{path}: no rows")
    return rows
