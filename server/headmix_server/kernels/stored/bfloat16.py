"""Products in bfloat16 by the processor's own instructions: weights and inputs are rounded to it, sums are float32.

AVX-512's dot product of pairs (`vdpbf16ps`) and AMX's tiles read the blocks of `BFLOATS` as they are. The reference
rounds, then multiplies in float32. Needs `kernels.native` loaded.
"""

from enum import IntFlag

import torch
from torch import Tensor
from torch.nn import functional

from headmix_server.kernels.native.loading import load_native
from headmix_server.kernels.stored.unpack import unpack
from headmix_server.kernels.stored.weights import StoredWeights


class Unit(IntFlag):
    """The units that multiply bfloat16, as the native library numbers them."""

    AVX512_BF16 = 1
    AMX = 2


def available_units() -> Unit:
    """Return the units of this processor that the system lets programs use; none without native kernels."""
    return Unit(int(torch.ops.headmix.bfloat16_units())) if load_native() else Unit(0)


def multiply_rounded(x: Tensor, weights: StoredWeights, unit: Unit, bias: Tensor, out: Tensor) -> None:
    """Write x W^T + b to `out` [rows, out], float32 with contiguous rows; a row's result depends on that row alone.

    x [rows, in] is float32 and rounded once. The bias is empty if there is none.
    """
    torch.ops.headmix.bfloat16_linear(x, weights.blocks, int(unit), bias, out)


def reference_rounded(x: Tensor, weights: StoredWeights) -> Tensor:
    """Return x W^T, with torch's own operations."""
    return functional.linear(x.bfloat16().float(), unpack(weights))
