"""Float32 products on a CPU with the weights in oneDNN's own blocked order, one order for every number of rows.

The two operators are the ones that torch.compile inserts for frozen weights; they have no public name.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_ROWS = 32
"""The number of rows for which the order is chosen: a decode step's. It was the fastest at 1 and 2048 rows too."""


@dataclass(frozen=True, eq=False, slots=True)
class PackedLinear:
    """See `models.formats.linear.Linear`. A row's result does not depend on the rows next to it."""

    packed: Tensor  # [out, in], opaque
    bias: Tensor | None = None  # [out]

    def __call__(self, x: Tensor) -> Tensor:
        """See `Linear`."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")  # noqa: SLF001
        return out


def pack_linear(weight: Tensor, bias: Tensor | None = None) -> PackedLinear:
    """Pack W (out, in), float32 on a CPU; keeps no reference to it."""
    return PackedLinear(torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS), bias)  # noqa: SLF001
