"""Sequences of a step, as attention's tests lay them out."""

from collections.abc import Sequence
from dataclasses import dataclass

from headmix_server.kernels.attention.step_layout import BlockTable, StepLayout, lay_out, tabulate_blocks


@dataclass(frozen=True, slots=True)
class Chunk:
    """See `kernels.attention.step_layout.Span`."""

    start: int
    count: int
    blocks: Sequence[int]


def whole_texts(lengths: Sequence[int]) -> StepLayout:
    """Return the layout of texts of these lengths, read whole."""
    return lay_out([Chunk(0, length, ()) for length in lengths])


def paged(chunks: Sequence[Chunk], block_size: int, num_blocks: int) -> tuple[StepLayout, BlockTable]:
    """Return the layout and the block table of a step."""
    return lay_out(chunks), tabulate_blocks(chunks, block_size, num_blocks)
