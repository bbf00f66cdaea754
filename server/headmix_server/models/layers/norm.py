"""The two normalisations of the supported families, over the last dimension."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn.functional import layer_norm

from headmix_server.kernels.row_ops import TORCH, RowOps, spoil_overflowed_rows


class Norm(Protocol):
    """An RMS norm or a layer norm."""

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise [..., width]; the shape stays the same."""
        ...


@dataclass(frozen=True, slots=True)
class RMSNorm:
    """Divide by the root mean square, then multiply by the weight [width]."""

    weight: Tensor
    eps: float
    ops: RowOps = TORCH

    def __call__(self, x: Tensor) -> Tensor:
        """See `Norm`."""
        return self.ops.rms_norm(x, self.weight, self.eps)


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """Centre, scale to unit variance, then apply weight and bias [width]."""

    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """See `Norm`."""
        return spoil_overflowed_rows(layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps), x)
