"""8-bit integer matrices in the native library's order: groups of outputs, four inputs per word.

The layout is in `native/int8_tiles.h`. The codes and scales are those of `kernels.quantize`, and integer sums are
exact, so products are bit for bit those of oneDNN's form, the reference. Needs `kernels.native` loaded.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from headmix_server.kernels.quantize import ZERO

GROUP = 16
DEPTH = 64
WORD = 4


@dataclass(frozen=True, eq=False, slots=True)
class Int8Weights:
    """W (out, in), rotated and quantised; inputs and outputs are padded with zeros."""

    groups: Tensor  # [groups, bytes] uint8
    outputs: int
    inputs: int


def pack_int8(codes: Tensor, scales: Tensor) -> Int8Weights:
    """Pack codes [out, in], int8, and their scales [out]; keeps no reference to them."""
    outputs, inputs = codes.shape
    padded = functional.pad(codes, (0, -inputs % DEPTH, 0, -outputs % GROUP))
    words = padded.view(-1, GROUP, padded.shape[1] // WORD, WORD).transpose(1, 2)  # [groups, depth / 4, 16, 4]
    shifts = padded.sum(dim=1, dtype=torch.int32) * -ZERO
    factors = functional.pad(scales, (0, -outputs % GROUP))
    parts = [words.flatten(1), shifts.view(-1, GROUP), factors.view(-1, GROUP)]
    return Int8Weights(torch.cat([part.contiguous().view(torch.uint8) for part in parts], dim=1), outputs, inputs)


def multiply_int8(x: Tensor, weights: Int8Weights, bias: Tensor, out: Tensor) -> None:
    """Write x W^T + b to `out` [rows, out], float32 with contiguous rows; the bias is empty if there is none."""
    torch.ops.headmix.int8_linear(x, weights.groups, bias, out)
