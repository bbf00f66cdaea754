"""Inputs as 24-bit fixed-point numbers: the reference of what the native library multiplies whole-number codes with.

Each block of `WIDTH` inputs of a row has a power of two of its own, so that every input is a whole number of at most
`LARGEST` times it. A number is a high digit of 8 bits and a lower part of 16; the sum of either times the codes of a
block is exact, whatever instruction computes it and in whatever order. Both are rounded to float32, joined and scaled;
the sums of blocks are added in float32.

An input's error is at most 2^-23 of the largest input of its block. A float32 product rounds every partial sum instead,
which errs more for most inputs: a test compares both with float64. Inputs from `TOO_LARGE` on count as not finite.
"""

import torch
from torch import Tensor
from torch.nn import functional

from headmix_server.kernels.stored.unpack import unpack
from headmix_server.kernels.stored.weights import WIDTH, StoredWeights

LARGEST = 0x7F7F7F
"""The largest number whose three signed bytes multiply exactly."""

TOO_LARGE = 2.0**112
"""The magnitude from which on the sum of a block's products could overflow."""

_SMALLEST = -102
"""The least exponent of a block's largest input: below it, scales would be no normal floats."""


def fix(x: Tensor) -> Tensor:
    """Return inputs [rows, in] rounded to fixed point, as float32, which holds them exactly; NaN where not finite."""
    high, lower = cut(x)
    return high + lower


def cut(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the high digits and the lower parts of inputs [rows, in] in fixed point, times their scales."""
    rows, inputs = x.shape
    blocks = functional.pad(x, (0, -inputs % WIDTH)).view(rows, -1, WIDTH).double()
    most = blocks.abs().amax(dim=2, keepdim=True)
    exponents = torch.frexp(most).exponent.clamp(min=_SMALLEST)
    carried = (most * torch.exp2(23.0 - exponents)).round() > LARGEST
    scales = torch.exp2((exponents + carried - 23).double())
    scales = torch.where(most < TOO_LARGE, scales, torch.nan)  # also where the largest is NaN
    numbers = (blocks / scales).round()
    high = (numbers / 2**8 + 0.5).floor() / 2**8 + 0.5
    parts = (high.floor() * 2**16, numbers - high.floor() * 2**16)
    cut_high, cut_lower = ((part * scales).view(rows, -1)[:, :inputs].float() for part in parts)
    return cut_high, cut_lower


def reference(x: Tensor, weights: StoredWeights) -> Tensor:
    """Return x W^T, in float64 up to the last rounding."""
    return functional.linear(fix(x).double(), unpack(weights).double()).float()
