"""Evenly spaced samples of a byte range: enough to distinguish two models, few enough to read at every start."""

from collections.abc import Iterator
from typing import BinaryIO

BLOCK_BYTES = 4096


def sample_blocks(file: BinaryIO, start: int, stop: int, count: int) -> Iterator[bytes]:
    """Yield `count` blocks of 4 KiB spread evenly over the bytes [start, stop), including the first and last bytes.

    A range no longer than all blocks together is yielded whole.
    """
    length = stop - start
    if length <= count * BLOCK_BYTES:
        file.seek(start)
        yield file.read(length)
        return
    for index in range(count):
        file.seek(start + index * (length - BLOCK_BYTES) // (count - 1))
        yield file.read(BLOCK_BYTES)
