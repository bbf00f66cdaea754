"""Quantising rows to 8-bit integers, each by its own largest value, after a rotation that removes outliers.

The rotation is an orthogonal Hadamard matrix on blocks of neighbouring columns (QuaRot, arXiv 2404.00456): applied to
the rows of both x and W, it leaves x W^T as it is. A row's codes depend on that row alone.
"""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from headmix_server.core.observability.logging import get_logger
from headmix_server.kernels.native.loading import load_native

LARGEST = 127
ZERO = 128
LARGEST_BLOCK = 512

RowQuantizer = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""x [rows, width], float32, and the block width of its rotation -> codes uint8 [rows, width], where 128 is
zero, and scales float32 [rows, 1]."""


def turning_block(width: int) -> int:
    """Return the block width of a rotation: the largest power of two that divides the width, at most 512."""
    return min(width & -width, LARGEST_BLOCK)


def quantize_rows(x: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Compute a `RowQuantizer`'s result with torch's own operations: the reference."""
    turned = turn(x, block)
    largest = turned.abs().amax(dim=-1, keepdim=True)
    factors = torch.where(largest > 0, LARGEST / largest, 0)
    return (turned * factors).round_().add_(ZERO).to(torch.uint8), largest / LARGEST


def native_quantize_rows(x: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Compute a `RowQuantizer`'s result in one pass of the native library."""
    codes, scales = torch.empty(x.shape, dtype=torch.uint8), torch.empty(x.shape[0], 1)
    torch.ops.headmix.quantize_rows(x.contiguous(), block, codes, scales)
    return codes, scales


def best_quantizer() -> RowQuantizer:
    """Return the native quantizer if the native library is loaded, else the reference."""
    native = load_native()
    get_logger("models").info("quantisation of activations", by="native" if native else "torch")
    return native_quantize_rows if native else quantize_rows


def turn(x: Tensor, block: int) -> Tensor:
    """Rotate rows [rows, width] block by block; doing it twice gives x back."""
    return (x.reshape(-1, block) @ _hadamard(block)).view(x.shape)


@cache
def _hadamard(size: int) -> Tensor:
    """Return Sylvester's Hadamard matrix of a power of two, symmetric and normalised to be orthogonal."""
    matrix = torch.ones(1, 1)
    while matrix.shape[0] < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / math.sqrt(size)
