"""Bytes through a pipe, each piece after its length."""

import struct
from typing import BinaryIO

LENGTH = struct.Struct(">Q")


def read_frame(stream: BinaryIO) -> bytes | None:
    """Return the next frame, or None if the stream ends, even within a frame."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = stream.read(length)
    return body if len(body) == length else None


def write_frame(stream: BinaryIO, body: bytes) -> None:
    """Write a frame."""
    stream.write(LENGTH.pack(len(body)))
    stream.write(body)
    stream.flush()
