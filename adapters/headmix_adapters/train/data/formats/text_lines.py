"""The lines of a UTF-8 text file, each with its number, in bounded memory: a file of one endless line too.

Owns what is not text: other encodings and archives are refused by name, a line that is not UTF-8 by its number.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from headmix_adapters.train.data.formats.entry import UnreadableError

_HEAD = 8192
_PIECE = 2**16
_ENCODINGS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_KINDS = (
    (b"PK\x03\x04", "a zip archive (or an Excel file)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"PAR1", "a Parquet file; its name must end in .parquet"),
    (b"%PDF", "a PDF file"),
)
_ESCAPED = re.compile("[\udc80-\udcff]")
"""What Python's `surrogateescape` makes of bytes that are not UTF-8."""


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line with its end; `fault` says why it has no usable text."""

    number: int
    text: str
    fault: str = ""


def open_text(path: Path, newline: str | None = None) -> TextIO:
    """Open a UTF-8 file, with or without a byte order mark; `encoding_fault` finds bytes that are not UTF-8.

    Raises:
        UnreadableError: its first bytes are not those of UTF-8 text.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for mark, name in _ENCODINGS:
        if head.startswith(mark):
            raise UnreadableError(f"not UTF-8 text but {name}; save it as UTF-8")
    for mark, name in _KINDS:
        if head.startswith(mark):
            raise UnreadableError(f"not text but {name}")
    if b"\x00" in head:
        raise UnreadableError("not UTF-8 text: it holds NUL bytes, as binary files and UTF-16 do")
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def encoding_fault(text: str) -> str:
    """Return why a text from `open_text` is not UTF-8; empty if it is."""
    found = None if text.isascii() else _ESCAPED.search(text)
    return "" if found is None else f"not UTF-8 text (byte 0x{ord(found[0]) - 0xDC00:02x}); save the file as UTF-8"


def text_lines(file: TextIO, longest: int) -> Iterator[TextLine]:
    """Yield every line; one of more than `longest` characters is passed over and yielded with a fault."""
    number = 0
    while text := file.readline(longest + 1):
        number += 1
        if len(text) <= longest or text.endswith(("\n", "\r")):
            yield TextLine(number, text, encoding_fault(text))
            continue
        while (piece := file.readline(_PIECE)) and not piece.endswith(("\n", "\r")):
            pass
        yield TextLine(number, "", f"longer than {longest:,} characters")
