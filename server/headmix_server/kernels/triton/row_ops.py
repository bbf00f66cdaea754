"""The operations between a layer's products on CUDA, one launch each: RMS norm, gated SiLU and rotary embedding.

See `kernels.row_ops` for what they compute; its torch operations are what these are tested against. Values are float32
inside and rounded once at the end. Knows nothing of sequences or caches.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from headmix_server.kernels.triton.operand import block_of

SILU_BLOCK = 1024
"""Columns of one program of the gated SiLU."""


@triton.jit(do_not_specialize=["row_stride"])
def _rms_norm_kernel(
    x: tl.tensor,  # [rows, HEADS, WIDTH], the last two dense
    weight: tl.tensor,  # [WIDTH]
    out: tl.tensor,  # [rows, HEADS, WIDTH] dense
    row_stride: tl.tensor,
    eps: tl.tensor,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Grid (rows, HEADS)."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    columns = tl.arange(0, BLOCK)
    within = columns < WIDTH
    numbers = tl.load(x + row * row_stride + head * WIDTH + columns, mask=within, other=0.0).to(tl.float32)
    mean = tl.sum(numbers * numbers, axis=0) / WIDTH
    inverse = tl.where(mean < float("inf"), 1.0 / tl.sqrt(mean + eps), float("nan"))  # NaN: the squares overflowed
    factors = tl.load(weight + columns, mask=within, other=0.0).to(tl.float32)
    result = (numbers * inverse * factors).to(out.dtype.element_ty)
    tl.store(out + (row * HEADS + head) * WIDTH + columns, result, mask=within)


@triton.jit
def _gated_silu_kernel(
    gate_up: tl.tensor,  # [rows, 2 * WIDTH]
    out: tl.tensor,  # [rows, WIDTH]
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Grid (rows, WIDTH / BLOCK)."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    within = columns < WIDTH
    gate = tl.load(gate_up + row * 2 * WIDTH + columns, mask=within, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * WIDTH + WIDTH + columns, mask=within, other=0.0).to(tl.float32)
    result = (gate * tl.sigmoid(gate) * up).to(out.dtype.element_ty)
    tl.store(out + row * WIDTH + columns, result, mask=within)


@triton.jit(do_not_specialize=["row_stride"])
def _rotate_kernel(
    states: tl.tensor,  # [tokens, heads, SIZE], the last two dense
    cos: tl.tensor,  # [tokens, SIZE]
    sin: tl.tensor,  # [tokens, SIZE]; the first half negated
    out: tl.tensor,  # [tokens, heads, SIZE] dense
    row_stride: tl.tensor,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Grid (tokens, heads)."""
    token, head, heads = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    columns = tl.arange(0, BLOCK)
    within = columns < SIZE
    partners = tl.where(columns < SIZE // 2, columns + SIZE // 2, columns - SIZE // 2)
    own = states + token * row_stride + head * SIZE
    numbers = tl.load(own + columns, mask=within, other=0.0).to(tl.float32)
    others = tl.load(own + partners, mask=within, other=0.0).to(tl.float32)
    c = tl.load(cos + token * SIZE + columns, mask=within, other=0.0).to(tl.float32)
    s = tl.load(sin + token * SIZE + columns, mask=within, other=0.0).to(tl.float32)
    result = (numbers * c + others * s).to(out.dtype.element_ty)
    tl.store(out + (token * heads + head) * SIZE + columns, result, mask=within)


def triton_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Compute `row_ops.rms_norm` of [rows, (heads,) width] whose rows are dense; there may be gaps between rows."""
    width = weight.numel()
    heads = _dense_heads(x)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel():
        _rms_norm_kernel[x.shape[0], heads](
            x, weight, out, x.stride(0), eps, HEADS=heads, WIDTH=width, BLOCK=block_of(width), num_warps=_warps(width)
        )
    return out


def triton_gated_silu(gate_up: Tensor) -> Tensor:
    """Compute `row_ops.gated_silu` of dense [rows, 2 width]."""
    if not gate_up.is_contiguous():
        raise ValueError(f"rows of shape {tuple(gate_up.shape)} with strides {gate_up.stride()} are not contiguous")
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    out = torch.empty(rows, width, dtype=gate_up.dtype, device=gate_up.device)
    if out.numel():
        _gated_silu_kernel[rows, triton.cdiv(width, SILU_BLOCK)](gate_up, out, WIDTH=width, BLOCK=SILU_BLOCK)
    return out


def triton_rotate(states: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Compute `row_ops.rotate` of [tokens, heads, P] whose heads are dense; there may be gaps between rows."""
    cos, sin = angles
    heads, size = _dense_heads(states), states.shape[2]
    out = torch.empty(states.shape, dtype=states.dtype, device=states.device)
    if states.numel():
        _rotate_kernel[states.shape[0], heads](
            states, cos, sin, out, states.stride(0), SIZE=size, BLOCK=block_of(size), num_warps=1
        )
    return out


def _dense_heads(rows: Tensor) -> int:
    """Return how many heads a row has, and check that they follow each other without gaps."""
    heads = rows.shape[1] if rows.dim() == 3 else 1
    wanted = (rows.shape[-1], 1)[-(rows.dim() - 1) :]
    if rows.numel() and rows.stride()[1:] != wanted:
        raise ValueError(f"rows of shape {tuple(rows.shape)} with strides {rows.stride()} are not dense")
    return heads


def _warps(width: int) -> int:
    """Return the number of warps that gives each thread about eight values of a row."""
    return min(16, max(1, block_of(width) // 256))
