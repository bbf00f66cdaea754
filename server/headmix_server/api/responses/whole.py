"""Parts of a whole answer as JSON, gathered piece by piece while the answer is generated.

Log-probabilities of a long answer are megabytes. Each token's are turned to JSON when it comes, as in a stream, so that
at the end there is nothing left to do: building and validating all of them at once would hold up the event loop, and so
would even joining them.
"""

from collections.abc import Sequence

import msgspec
from pydantic import BaseModel


class JsonList:
    """A JSON list that grows."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def add(self, entry: BaseModel) -> None:
        """Append one entry."""
        self._pieces.append(entry.model_dump_json().encode())

    def extend(self, entries: Sequence[object]) -> None:
        """Append entries of JSON's own types."""
        if entries:
            self._pieces.append(msgspec.json.encode(entries)[1:-1])

    def append(self, others: "JsonList") -> None:
        """Append the entries of another list."""
        self._pieces += others._pieces  # noqa: SLF001 - another of this class

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def pieces(self) -> list[bytes]:
        """Return the list in pieces, which no memory is copied for."""
        between = [piece for entry in self._pieces for piece in (b",", entry)]
        return [b"[", *between[1:], b"]"]

    def json(self) -> msgspec.Raw:
        """Return the list."""
        return msgspec.Raw(b"[" + b",".join(self._pieces) + b"]")


def object_pieces(**fields: JsonList | None) -> list[bytes]:
    """Return what `json_object` returns, in pieces."""
    pieces: list[bytes] = []
    for name, entries in fields.items():
        pieces.append(f'{"," if pieces else "{"}"{name}":'.encode())
        pieces += [b"null"] if entries is None else entries.pieces()
    return [*pieces, b"}"]


def json_object(**fields: JsonList | None) -> msgspec.Raw:
    """Return an object of lists and nulls."""
    lists = {name: None if entries is None else entries.json() for name, entries in fields.items()}
    return msgspec.Raw(msgspec.json.encode(lists))
