"""What a format's reader yields: one row of a file, or why there is none on a line. Knows no field's meaning."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_ROW_CHARS = 4 * 2**20
"""Longer rows are refused without reading them whole. A parsed row takes at most some twenty times its length."""

MAX_BLANK_ROWS = 1_000_000
"""More blank lines than this between rows are refused: they take time, and are no rows that a check could count."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row's fields and the line it begins on (in Parquet, its number); without fields, `fault` is the reason."""

    line: int
    fields: dict[str, Any] | None
    fault: str = ""


def named_twice(names: Sequence[str]) -> str | None:
    """Return the first name that appears twice, of whose columns only the last would be read."""
    counts = Counter(names)  # a file may claim to have millions of columns
    return next((name for name in names if counts[name] > 1), None)


def too_many_blank(line: int) -> Entry:
    """Return the fault that ends the reading of a file on a line."""
    return Entry(line, None, f"more than {MAX_BLANK_ROWS:,} blank lines")


FormatReader = Callable[[Path, int], Iterator[Entry]]
"""Reads a file whose rows have at most so many characters."""


class UnreadableError(Exception):
    """The file as a whole cannot be read; the message says why, without the file's name."""
