"""Data files as rows with their place: JSON Lines or CSV, by the file's ending. Knows no task and no tokens."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from headmix_adapters.train.errors import DataError


@dataclass(frozen=True, slots=True)
class Row:
    """One line's fields and where it stands, `file:line`, for error messages."""

    place: str
    fields: dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Read every row of a `.jsonl` or `.csv` file in order; blank lines are skipped.

    Raises:
        DataError: no such file, another ending, no rows, or a line that is not an object; file and line are named.
    """
    readers = {".jsonl": _json_lines, ".csv": _csv_lines}
    reader = readers.get(path.suffix)
    if reader is None:
        raise DataError(f"{path}: data files end in .jsonl or .csv")
    try:
        rows = list(reader(path))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    if not rows:
        raise DataError(f"{path}: no rows")
    return rows


def _json_lines(path: Path) -> Iterator[Row]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield Row(f"{path}:{number}", decoder.decode(line))
            except msgspec.DecodeError as error:
                raise DataError(f"{path}:{number}: {error}") from error


def _csv_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for fields in reader:
                place = f"{path}:{reader.line_num}"
                if None in fields or None in fields.values():
                    raise DataError(f"{place}: expected {len(reader.fieldnames or ())} columns")
                yield Row(place, dict(fields))
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: {error}") from error
