"""Float32 products with weights as a checkpoint stores them, by the native library.

The weights, unpacked during the product, are bit for bit those that loading in float32 gives. The reference unpacks
them with torch (`unpack`) and multiplies. Needs `kernels.native` loaded.
"""

import torch
from torch import Tensor
from torch.nn import functional

from headmix_server.kernels.stored.weights import StoredWeights


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
