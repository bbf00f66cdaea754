"""The items of a JSON array as texts with their lines, split without parsing them and without the whole in memory."""

import re
from collections.abc import Iterator
from typing import TextIO

from headmix_adapters.train.data.formats.text_lines import TextLine, encoding_fault

_MARKS = re.compile(r'[\[\]{},"\\]')
_CHUNK = 2**16


def array_items(file: TextIO, longest: int) -> Iterator[TextLine]:
    """Yield each item's text and the line it begins on; of one that is too long, only the fault.

    A file that ends within the array, or goes on behind it, has a fault at that line.
    """
    splitter = _Splitter(longest)
    while chunk := file.read(_CHUNK):
        yield from splitter.feed(chunk)
        if splitter.closed and splitter.pending:
            yield TextLine(splitter.line, "", "something follows the end of the array")
            return
    if not splitter.closed and (splitter.opened or splitter.pending):
        yield TextLine(splitter.line, "", "the array has no end")


class _Splitter:
    """Where in the array's text a chunk has ended: how deep, whether within a string, and the item that has begun."""

    def __init__(self, longest: int) -> None:
        self.opened = self.closed = False
        self.line = 1
        self._longest = longest
        self._depth = 0
        self._in_text = False
        self._escaped = -1
        self._items = 0
        self._restart()

    @property
    def pending(self) -> bool:
        """Whether something has been read that is in no item yet."""
        return self._length > 0

    def feed(self, chunk: str) -> Iterator[TextLine]:
        """Yield the items that end in the chunk."""
        start = 0
        for found in () if self.closed else _MARKS.finditer(chunk):
            at, mark = found.start(), found[0]
            if at == self._escaped:
                continue
            if self._in_text or mark in '"\\':
                self._string(mark, at)
                continue
            self._depth += {",": 0, "[": 1, "{": 1}.get(mark, -1)
            if mark == "[" and self._depth == 1:
                self.opened = True
                start = self._skip(chunk, start, at)
            elif (mark == "," and self._depth == 1) or self._depth == 0:
                yield from self._end(chunk[start:at], mark)
                start = at + 1
            if self.closed:
                break
        self._add(chunk[start:])
        self._escaped = 0 if self._escaped == len(chunk) else -1

    def _string(self, mark: str, at: int) -> None:
        if mark == '"':
            self._in_text = not self._in_text
        elif self._in_text and mark == "\\":
            self._escaped = at + 1

    def _skip(self, chunk: str, start: int, at: int) -> int:
        self.line += chunk.count("\n", start, at)
        self._restart()
        return at + 1

    def _add(self, text: str) -> None:
        if not self._length:  # an item begins at its first character that is not blank
            rest = text.lstrip()
            self.line += text.count("\n", 0, len(text) - len(rest))
            text, self._begun = rest, self.line
        self._length += len(text)
        self.line += text.count("\n")
        if self._length <= self._longest:
            self._parts.append(text)

    def _end(self, text: str, mark: str) -> Iterator[TextLine]:
        self._add(text)
        self.closed = self._depth == 0
        self._items += 1
        whole = "".join(self._parts)
        if mark == "}":
            yield TextLine(self.line, "", "a closing } without an opening one")
        elif self._length > self._longest:
            yield TextLine(self._begun, "", f"longer than {self._longest:,} characters")
        elif whole or mark == "," or self._items > 1:
            yield TextLine(self._begun, whole, encoding_fault(whole))
        self._restart()

    def _restart(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._begun = self.line
