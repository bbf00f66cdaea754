"""A frozen affine map: the projections of every family."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Linear:
    """x -> x W^T + b with W (out, in); `bias` None where the family has none."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Map [tokens, in] to a new tensor [tokens, out], which the caller may add to in place."""
        return functional.linear(x, self.weight, self.bias)


def stack(linears: Sequence[Linear]) -> Linear:
    """Join maps of the same input into one whose results stand side by side; all have a bias or none has."""
    biases = [linear.bias for linear in linears if linear.bias is not None]
    return Linear(torch.cat([linear.weight for linear in linears]), torch.cat(biases) if biases else None)
