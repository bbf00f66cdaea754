"""What Triton's matrix products require of their operands: a supported type and a minimum size."""

import torch
import triton
import triton.language as tl

MIN_DOT = 16
"""The minimum inner dimension of Triton's matrix product."""


def operand(dtype: torch.dtype) -> tl.dtype:
    """Return the type of a product's operands: Triton's interpreter would multiply bfloat16's bits as integers."""
    return tl.bfloat16 if dtype == torch.bfloat16 and not triton.knobs.runtime.interpret else tl.float32


def block_of(size: int) -> int:
    """Return the smallest block that holds `size` values and that a product accepts."""
    return max(MIN_DOT, int(triton.next_power_of_2(size)))
