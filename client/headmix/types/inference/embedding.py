"""Owns the types of embeddings: one vector per text, whether sent as numbers or packed."""

import base64
import binascii
import struct
from typing import Annotated

from pydantic import BeforeValidator

from headmix.types.result import Part, Result, Usage

_FLOAT_BYTES = 4


def _unpacked(value: object) -> object:
    """Unpack base64-encoded little-endian 32-bit floats; return anything else unchanged."""
    if not isinstance(value, str):
        return value
    try:
        packed = base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error
    if len(packed) % _FLOAT_BYTES:
        raise ValueError(f"{len(packed)} bytes are no 32-bit floats")
    return struct.unpack(f"<{len(packed) // _FLOAT_BYTES}f", packed)


class EmbeddingItem(Part):
    """One input's vector."""

    index: int
    embedding: Annotated[tuple[float, ...], BeforeValidator(_unpacked)]


class Embeddings(Result):
    """The response of POST /v1/embeddings: `data` in the order of the inputs."""

    model: str
    data: tuple[EmbeddingItem, ...]
    usage: Usage | None = None

    @property
    def vectors(self) -> tuple[tuple[float, ...], ...]:
        """The vectors in the order of the inputs."""
        return tuple(item.embedding for item in self.data)

    @property
    def vector(self) -> tuple[float, ...]:
        """The first input's vector; empty if there is none."""
        return self.data[0].embedding if self.data else ()
