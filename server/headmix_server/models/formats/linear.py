"""A frozen affine map, x -> x W^T + b with W (out, in): the projections of every family, in torch's plain form.

The other forms (`packed_linear`, `int8_linear`) are tested against this one; `linear_format` chooses the form.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional

from headmix_server.kernels.products import missing_depth


class Linear(Protocol):
    """Any form of the map."""

    def __call__(self, x: Tensor) -> Tensor:
        """Map [tokens, in] to a new tensor [tokens, out], which the caller may add to in place."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class PlainLinear:
    """The weights as in the checkpoint; `bias` is None if the family has none."""

    weight: Tensor  # [out, in + padding]
    bias: Tensor | None = None  # [out]
    padding: int = 0  # zeros at the end of each row

    def __call__(self, x: Tensor) -> Tensor:
        """See `Linear`."""
        padded = functional.pad(x, (0, self.padding)) if self.padding else x
        return functional.linear(padded, self.weight, self.bias)


def plain_linear(weight: Tensor, bias: Tensor | None = None) -> PlainLinear:
    """Make the plain form of W (out, in), with the padding that keeps the products of its inputs' rows independent."""
    padding = missing_depth(weight.shape[1], weight.dtype, weight.device)
    return PlainLinear(functional.pad(weight, (0, padding)) if padding else weight, bias, padding)
