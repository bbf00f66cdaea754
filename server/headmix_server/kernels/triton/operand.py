"""What Triton's matrix products ask of their operands: a type they multiply and a least size."""

import torch
import triton
import triton.language as tl

MIN_DOT = 16
"""The least inner dimension of Triton's matrix product."""


def operand(dtype: torch.dtype) -> tl.dtype:
    """Return the type of a product's operands: Triton's interpreter would multiply bfloat16's bits as integers."""
    return tl.bfloat16 if dtype == torch.bfloat16 and not triton.knobs.runtime.interpret else tl.float32


def block_of(size: int) -> int:
    """Return the least block that holds `size` numbers and that a product takes."""
    return max(MIN_DOT, int(triton.next_power_of_2(size)))
