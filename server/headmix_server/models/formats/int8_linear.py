"""Products in 8-bit integers: weights have one scale per output, inputs one scale per row.

The inputs are unsigned, because oneDNN has no fast code for signed ones. Both sides are rotated first
(`kernels.quantize`). The integer sums are exact, so a row's result depends on that row alone, and the native form and
oneDNN's give the same bits. Adapters' additions stay in float32.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from headmix_server.kernels.int8_weights import Int8Weights, multiply_int8, pack_int8
from headmix_server.kernels.quantize import ZERO, RowQuantizer, quantize_rows, turning_block
from headmix_server.models.formats.linear import Linear

MakeInt8 = Callable[[Tensor, Tensor | None, RowQuantizer], Linear]
"""Quantises W (out, in), float32, and keeps no reference to it."""


@dataclass(frozen=True, eq=False, slots=True)
class Int8Linear:
    """See `models.formats.linear.Linear`: by oneDNN, the reference."""

    packed: Tensor  # [in, out] int8, opaque
    scales: Tensor  # [out]
    zeros: Tensor  # [out] int32: the weights' zero points
    bias: Tensor | None  # [out]
    block: int
    quantize: RowQuantizer

    def __call__(self, x: Tensor) -> Tensor:
        """See `Linear`."""
        codes, scales = self.quantize(x, self.block)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(codes, 1.0, ZERO, self.packed, self.scales, self.zeros, None, 1.0, 0, torch.float32, "none", [], "")
        )
        return product.mul_(scales) if self.bias is None else torch.addcmul(self.bias, product, scales)


def int8_linear(weight: Tensor, bias: Tensor | None, quantize: RowQuantizer) -> Int8Linear:
    """Make oneDNN's form; see `MakeInt8`."""
    block = turning_block(weight.shape[1])
    codes, scales = quantize(weight, block)
    zeros = torch.zeros(weight.shape[0], dtype=torch.int32)
    packed = torch.ops.onednn.qlinear_prepack(_signed(codes), None)
    return Int8Linear(packed, scales.flatten(), zeros, bias, block, quantize)


@dataclass(frozen=True, eq=False, slots=True)
class NativeInt8Linear:
    """See `models.formats.linear.Linear`: by the native library, which also quantises the inputs."""

    weights: Int8Weights
    bias: Tensor  # [out], empty if there is none

    def __call__(self, x: Tensor) -> Tensor:
        """See `Linear`."""
        out = torch.empty(x.shape[0], self.weights.outputs)
        multiply_int8(x, self.weights, self.bias, out)
        return out


def native_int8_linear(weight: Tensor, bias: Tensor | None, quantize: RowQuantizer) -> NativeInt8Linear:
    """Make the native form; see `MakeInt8`."""
    codes, scales = quantize(weight, turning_block(weight.shape[1]))
    return NativeInt8Linear(pack_int8(_signed(codes), scales.flatten()), torch.empty(0) if bias is None else bias)


@dataclass(frozen=True, eq=False, slots=True)
class Int8Table:
    """See `models.layers.token_table.TokenTable`; every row has its own scale."""

    codes: Tensor  # [vocab, D] int8
    scales: Tensor  # [vocab, 1]

    @property
    def nbytes(self) -> int:
        """See `TokenTable`."""
        return self.codes.nbytes + self.scales.nbytes

    def __call__(self, tokens: Tensor) -> Tensor:
        """See `TokenTable`."""
        return functional.embedding(tokens, self.codes) * functional.embedding(tokens, self.scales)


def int8_table(rows: Tensor) -> Int8Table:
    """Quantise a table [vocab, D] row by row, without rotation; keeps no reference to it."""
    codes, scales = quantize_rows(rows, block=1)
    return Int8Table(_signed(codes), scales)


def _signed(codes: Tensor) -> Tensor:
    """Return int8 codes around 0 for uint8 codes around 128: the two differ in one bit."""
    return codes.bitwise_xor_(ZERO).view(torch.int8)
