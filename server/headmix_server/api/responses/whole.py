"""Parts of a non-streamed response as JSON, collected while the tokens are generated.

The log-probabilities of a long response take megabytes. Each token's are converted to JSON as they arrive, as in a
stream: building and validating all of them at the end would block the event loop, and so would even joining them.
"""

from collections.abc import Sequence

import msgspec
from pydantic import BaseModel


class JsonList:
    """A growing JSON list."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def add(self, entry: BaseModel) -> None:
        """Append one entry."""
        self._pieces.append(entry.model_dump_json().encode())

    def extend(self, entries: Sequence[object]) -> None:
        """Append entries that are already of JSON's types."""
        if entries:
            self._pieces.append(msgspec.json.encode(entries)[1:-1])

    def append(self, others: "JsonList") -> None:
        """Append the entries of another list."""
        self._pieces += others._pieces  # noqa: SLF001 - the same class

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def pieces(self) -> list[bytes]:
        """Return the list in pieces, without copying them."""
        between = [piece for entry in self._pieces for piece in (b",", entry)]
        return [b"[", *between[1:], b"]"]

    def json(self) -> msgspec.Raw:
        """Return the list as JSON."""
        return msgspec.Raw(b"[" + b",".join(self._pieces) + b"]")


def object_pieces(**fields: JsonList | None) -> list[bytes]:
    """Return the same as `json_object`, in pieces."""
    pieces: list[bytes] = []
    for name, entries in fields.items():
        pieces.append(f'{"," if pieces else "{"}"{name}":'.encode())
        pieces += [b"null"] if entries is None else entries.pieces()
    return [*pieces, b"}"]


def json_object(**fields: JsonList | None) -> msgspec.Raw:
    """Return a JSON object of lists and nulls."""
    lists = {name: None if entries is None else entries.json() for name, entries in fields.items()}
    return msgspec.Raw(msgspec.json.encode(lists))
