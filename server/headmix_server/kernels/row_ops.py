"""The row-wise operations between a layer's products: RMS norm, gated SiLU and rotary embedding.

torch's own operations are the reference; they run where there are neither native operations (on a CPU) nor Triton (on a
GPU). A row's result depends on that row alone.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from headmix_server.core.observability.logging import get_logger
from headmix_server.kernels.native.loading import load_native

Angles = tuple[Tensor, Tensor]
"""Cosines and sines [tokens, 1, P] of a step's positions; the sines of the first half are negated."""


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Divide the rows [rows, (heads,) width] by their root mean square, then multiply by the weight [width].

    A row whose mean square overflows becomes NaN: divided by infinity, it would look like valid values.
    """
    return spoil_overflowed_rows(functional.rms_norm(x, weight.shape, weight, eps), x)


def spoil_overflowed_rows(normed: Tensor, x: Tensor) -> Tensor:
    """Set normalised rows to NaN, in place, where x [..., width] is too large to be squared; returns `normed`."""
    return normed.add_(torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32), alpha=0)


def native_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Compute `rms_norm` in one pass of the native library; float32 on a CPU, rows contiguous."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    torch.ops.headmix.rms_norm(x, weight, eps, out)
    return out


def gated_silu(gate_up: Tensor) -> Tensor:
    """Return silu(gate) * up [rows, width] of [rows, 2 width], gate first."""
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate).mul_(up)


def native_gated_silu(gate_up: Tensor) -> Tensor:
    """Compute `gated_silu` in one pass of the native library; float32 on a CPU."""
    out = torch.empty(gate_up.shape[0], gate_up.shape[1] // 2, device=gate_up.device)
    torch.ops.headmix.gated_silu(gate_up, out)
    return out


def rotate(states: Tensor, angles: Angles) -> Tensor:
    """Rotate queries and keys [tokens, heads, P] to their positions, in a new tensor; a head's halves are pairs."""
    cos, sin = angles
    first, second = states.chunk(2, dim=-1)
    return (states * cos).addcmul_(torch.cat([second, first], dim=-1), sin)


def native_rotate(states: Tensor, angles: Angles) -> Tensor:
    """Compute `rotate` in one pass of the native library; float32 on a CPU, heads contiguous."""
    out = torch.empty_like(states, memory_format=torch.contiguous_format)
    torch.ops.headmix.rotate(states, *angles, out)
    return out


@dataclass(frozen=True, slots=True)
class RowOps:
    """One implementation of each operation."""

    name: str
    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    gated_silu: Callable[[Tensor], Tensor]
    rotate: Callable[[Tensor, Angles], Tensor]


TORCH = RowOps("torch", rms_norm, gated_silu, rotate)
NATIVE = RowOps("native", native_rms_norm, native_gated_silu, native_rotate)


def choose_row_ops(device: torch.device, dtype: torch.dtype) -> RowOps:
    """Return the fastest implementation for states of this dtype on the device, and log the choice."""
    ops = TORCH
    if device.type == "cpu" and dtype == torch.float32 and load_native():
        ops = NATIVE
    elif device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        from headmix_server.kernels.triton import row_ops as by_triton

        ops = RowOps("triton", by_triton.triton_rms_norm, by_triton.triton_gated_silu, by_triton.triton_rotate)
    get_logger("models").info("norms and activations", by=ops.name)
    return ops
