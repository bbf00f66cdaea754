"""The layout of a ragged step: which rows belong to which sequence, and where each sequence's cache is.

Built once per step from the scheduler's decisions: small integer tensors on the CPU that the attention of every layer
reads. Knows nothing of keys or layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor

CPU = torch.device("cpu")
"""The device of layouts, wherever the keys are; attention implementations that need them elsewhere move them."""


class Span(Protocol):
    """One sequence's share of a step: `count` rows at positions from `start`; `blocks` hold its cache in order."""

    @property
    def start(self) -> int:
        """Position of the first row, and the number of positions already in the cache."""
        ...

    @property
    def count(self) -> int:
        """The number of rows in this step, at least one."""
        ...

    @property
    def blocks(self) -> Sequence[int]:
        """Cache blocks, in the order of positions; there may be more than these rows need."""
        ...


@dataclass(frozen=True, slots=True)
class StepLayout:
    """The n sequences of a step, their rows one after another; int32 tensors."""

    rows: Tensor  # [n + 1] where each sequence's rows begin in the batch; the last entry is the number of rows
    starts: Tensor  # [n] position of each sequence's first row

    def positions(self) -> Tensor:
        """Return every row's position: [rows] int64."""
        if int(self.rows[-1]) == self.starts.numel():  # one row each, as in most steps
            return self.starts.long()
        rows = self.rows.long()
        shift = (self.starts - rows[:-1]).repeat_interleave(rows.diff())
        return torch.arange(shift.numel(), device=CPU) + shift


@dataclass(frozen=True, slots=True)
class BlockTable:
    """The cache blocks of a step's sequences; different sequences may share blocks that they only read."""

    blocks: Tensor  # [n, longest] int32; 0 beyond a sequence's own blocks
    block_size: int  # positions per block

    def places(self, sequence: int, end: int) -> Tensor:
        """Return the cache places of positions 0 to `end` of a sequence: [end] int64."""
        blocks = self.blocks[sequence, : -(-end // self.block_size)].long()
        return (blocks[:, None] * self.block_size + torch.arange(self.block_size, device=CPU)).flatten()[:end]


def lay_out(spans: Sequence[Span]) -> StepLayout:
    """Lay out the spans' rows in order.

    Raises:
        ValueError: a span has no row or a position below 0.
    """
    starts, counts = [span.start for span in spans], [span.count for span in spans]
    if min(counts, default=1) < 1 or min(starts, default=0) < 0:
        raise ValueError(f"spans of {counts} rows from positions {starts}")
    rows = torch.tensor([0, *accumulate(counts)], dtype=torch.int32, device=CPU)
    return StepLayout(rows, torch.tensor(starts, dtype=torch.int32, device=CPU))


def tabulate_blocks(spans: Sequence[Span], block_size: int, num_blocks: int) -> BlockTable:
    """Collect the spans' blocks in one table, for a cache of `num_blocks` blocks.

    Raises:
        ValueError: a span's blocks do not hold its rows, or one names a block that does not exist.
    """
    lengths = [len(span.blocks) for span in spans]
    for span, length in zip(spans, lengths, strict=True):
        if span.start + span.count > length * block_size:
            raise ValueError(f"position {span.start + span.count - 1} is not in {length} blocks of {block_size}")
    longest = max(lengths, default=0)
    flat: list[int] = []
    for span, length in zip(spans, lengths, strict=True):
        flat += span.blocks
        flat += [0] * (longest - length)
    blocks = torch.tensor(flat, dtype=torch.int32, device=CPU).view(len(spans), longest)
    if flat:
        lowest, highest = (int(bound) for bound in blocks.aminmax())
        if lowest < 0 or highest >= num_blocks:
            raise ValueError(f"blocks {lowest} to {highest} of a cache of {num_blocks}")
    return BlockTable(blocks, block_size)
