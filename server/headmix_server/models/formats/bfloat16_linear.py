"""Products in bfloat16 on a CPU: weights are stored in bfloat16, inputs are rounded to it once, sums are float32.

Everything between the products stays in float32, including adapters' additions. The same blocks serve as the look-up
table of a tied head.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from headmix_server.kernels.stored.bfloat16 import Unit, multiply_rounded
from headmix_server.kernels.stored.weights import StoredWeights
from headmix_server.models.formats.linear import PlainLinear, plain_linear


@dataclass(frozen=True, eq=False, slots=True)
class BFloat16Linear:
    """See `models.formats.linear.Linear`. A row's result does not depend on the rows next to it."""

    weights: StoredWeights
    bias: Tensor  # [out], empty if there is none
    unit: Unit

    def __call__(self, x: Tensor) -> Tensor:
        """See `Linear`."""
        out = torch.empty(x.shape[0], self.weights.outputs)
        multiply_rounded(x, self.weights, self.unit, self.bias, out)
        return out


@dataclass(frozen=True, eq=False, slots=True)
class RoundedLinear:
    """See `Linear`: torch's own product, which also rounds its result. Used where there are no native kernels."""

    plain: PlainLinear  # in bfloat16

    def __call__(self, x: Tensor) -> Tensor:
        """See `Linear`."""
        return self.plain(x.bfloat16()).float()


def rounded_linear(weight: Tensor, bias: Tensor | None = None) -> RoundedLinear:
    """Round W (out, in) and its bias; keeps no reference to them."""
    return RoundedLinear(plain_linear(weight.bfloat16(), None if bias is None else bias.bfloat16()))
