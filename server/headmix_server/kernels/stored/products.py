"""Float32 products with weights as a checkpoint stores them, by the native library.

The weights are bit for bit those that loading in float32 gives. 16-bit floats are unpacked during the product, or AMX
multiplies bfloat16 as it is with inputs cut in three bfloat16 parts, which lose nothing. Where the processor has VNNI,
whole-number codes are multiplied in integers with inputs in fixed point, which is as exact
(`kernels.stored.fixed_point`). The reference unpacks the weights with torch (`unpack`) and multiplies. Needs
`kernels.native` loaded.
"""

from enum import IntEnum

import torch
from torch import Tensor
from torch.nn import functional

from headmix_server.kernels.stored.weights import StoredWeights


class CodeUnit(IntEnum):
    """What multiplies whole-number codes, as the native library numbers it."""

    FLOAT32 = 0
    """Vectors of floats, with the codes unpacked."""
    VNNI = 1
    AMX = 2
    """Its tiles for many rows, VNNI for a few: the same bits."""


def code_unit() -> CodeUnit:
    """Return what multiplies whole-number codes on this processor."""
    return CodeUnit(torch.ops.headmix.code_unit())


def multiply(x: Tensor, weights: StoredWeights, bias: Tensor, out: Tensor) -> None:
    """Write x W^T + b to `out` [rows, out], float32 with contiguous rows; a row's result depends on that row alone.

    The bias is empty if there is none.
    """
    padded = functional.pad(x, (0, weights.missing)) if weights.missing else x
    torch.ops.headmix.stored_linear(padded, weights.blocks, weights.kind, bias, out)


def rows_of(weights: StoredWeights, wanted: Tensor) -> Tensor:
    """Return some rows of W, unpacked: [wanted] -> [wanted, in]."""
    out = torch.empty(wanted.numel(), weights.inputs + weights.missing)
    torch.ops.headmix.stored_rows(weights.blocks, weights.kind, weights.outputs, wanted.contiguous(), out)
    return out[:, : weights.inputs].contiguous() if weights.missing else out
