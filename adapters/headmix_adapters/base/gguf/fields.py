"""Reads the metadata of a GGUF file. Does not load the `gguf` library, which takes a second."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gguf import GGUFReader


def read_field(reader: "GGUFReader", name: str) -> object:
    """Return a field's value, or None if the file lacks it."""
    field = reader.get_field(name)
    return None if field is None else field.contents()
