"""Float32 products with the weights as their checkpoint stores them, by the native library.

The weights are the same float32 values as in the other forms, unpacked only when they are multiplied, so results differ
from theirs only in the order of sums. The same blocks serve as the look-up table of a tied head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from headmix_server.kernels.stored.pack import pack
from headmix_server.kernels.stored.products import multiply, rows_of
from headmix_server.kernels.stored.weights import StoredWeights


@dataclass(frozen=True, eq=False, slots=True)
class StoredMatrix:
    """A matrix before packing: `rows` are its outputs, in bytes of GGUF blocks or in 16-bit floats."""

    kind: str
    rows: Tensor


@dataclass(frozen=True, eq=False, slots=True)
class StoredLinear:
    """See `models.formats.linear.Linear`. A row's result does not depend on the rows next to it."""

    parts: tuple[tuple[StoredWeights, Tensor], ...]  # each with its bias, which may be empty; outputs are concatenated
    outputs: int

    def __call__(self, x: Tensor) -> Tensor:
        """See `Linear`."""
        out = torch.empty(x.shape[0], self.outputs)
        first = 0
        for weights, bias in self.parts:
            multiply(x, weights, bias, out.narrow(1, first, weights.outputs))
            first += weights.outputs
        return out


@dataclass(frozen=True, eq=False, slots=True)
class StoredTable:
    """See `models.layers.token_table.TokenTable`."""

    weights: StoredWeights

    @property
    def nbytes(self) -> int:
        """See `TokenTable`."""
        return self.weights.nbytes

    def __call__(self, tokens: Tensor) -> Tensor:
        """See `TokenTable`."""
        return rows_of(self.weights, tokens)


def stored_linear(parts: Sequence[StoredMatrix], bias: Tensor | None = None) -> StoredLinear:
    """Pack matrices with the same input, whose results are concatenated; keeps no reference to them."""
    packed = [
        pack(torch.cat([part.rows for part in alike]), kind) for kind, alike in groupby(parts, lambda part: part.kind)
    ]
    return linear_of(packed, bias)


def linear_of(packed: Sequence[StoredWeights], bias: Tensor | None = None) -> StoredLinear:
    """Combine packed matrices into one map, whose results are concatenated."""
    sizes = [weights.outputs for weights in packed]
    biases = [torch.empty(0)] * len(packed) if bias is None else torch.split(bias, sizes)
    return StoredLinear(tuple(zip(packed, biases, strict=True)), sum(sizes))
