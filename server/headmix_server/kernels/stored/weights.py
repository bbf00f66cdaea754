"""A matrix as its checkpoint stores it, in the native library's order: groups of outputs, blocks of inputs.

The layout of each kind is in `native/stored_blocks.h`.
"""

from dataclasses import dataclass

from torch import Tensor

GROUP = 16
WIDTH = 32
NIBBLES, BYTES, BFLOATS, HALVES, SCALED_NIBBLES, FIVES, SCALED_FIVES, SIXES = range(8)
"""The kinds of blocks, as the native library numbers them."""


@dataclass(frozen=True, eq=False, slots=True)
class StoredWeights:
    """W (out, in) in blocks; inputs are padded with zeros to whole blocks."""

    blocks: Tensor  # [groups, blocks, bytes] uint8
    kind: int
    outputs: int
    inputs: int

    @property
    def nbytes(self) -> int:
        """The memory it takes, in bytes."""
        return self.blocks.nbytes

    @property
    def missing(self) -> int:
        """The number of zeros that inputs must be padded with."""
        return -self.inputs % WIDTH
