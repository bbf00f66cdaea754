"""A frozen affine map: the projections of every family."""

from dataclasses import dataclass

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
