"""A frozen affine map, x -> x W^T + b with W (out, in): the projections of every family, in torch's plain form.

The other forms (`packed_linear`, `int8_linear`) are tested against this one; which is used, `linear_format` says.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional


class Linear(Protocol):
    """Any form of the map."""

    def __call__(self, x: Tensor) -> Tensor:
        """Map [tokens, in] to a new tensor [tokens, out], which the caller may add to in place."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class PlainLinear:
    """The weights as the checkpoint has them; `bias` None where the family has none."""

    weight: Tensor  # [out, in]
    bias: Tensor | None = None  # [out]

    def __call__(self, x: Tensor) -> Tensor:
        """See `Linear`."""
        return functional.linear(x, self.weight, self.bias)
