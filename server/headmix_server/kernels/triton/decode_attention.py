"""Attention of single rows over the paged cache in place: nothing is gathered, only a row's own context is read.

Flash-decoding (Dao et al., 2023, https://crfm.stanford.edu/2023/10/12/flashdecoding.html): a row's context is cut into
parts that are attended to in parallel, and the parts' sums are combined. The row's own key and value come from the step
itself; the program that holds them writes them into the cache, so no other program reads what is being written. Shapes
and addresses never change between steps: see `kernels.attention.static`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
import triton
import triton.language as tl
from torch import Tensor

from headmix_server.kernels.attention.static import RowTables
from headmix_server.kernels.triton.operand import MIN_DOT, block_of, operand

DECODE: Mapping[str, int] = MappingProxyType({"num_warps": 4, "num_stages": 3})

MOST_POSITIONS = 128
"""Cached positions that are read at a time, if a multiprocessor has room for their keys and values."""

SMALLEST_SHARED = 99 * 1024
"""Bytes of shared memory a program may have on the smallest GPUs (compute capability 8.6 and 8.9)."""

SHARED_SHARE = 0.8
"""The share of shared memory for the keys and values read at a time; queries, scores and sums take the rest."""

PROGRAMS = 1024
"""About how many programs fill a GPU; a step of few rows cuts their contexts into this many parts."""

MOST_PARTS = 16


@triton.jit(do_not_specialize=["q_stride", "k_stride", "v_stride", "width"])
def _attend_part(
    q: tl.tensor,  # [rows, H, P]
    k: tl.tensor,  # [rows, G, P] the rows' own keys
    v: tl.tensor,
    keys: tl.tensor,  # [places, G, P] the cache
    values: tl.tensor,
    positions: tl.tensor,  # [rows] int32
    blocks: tl.tensor,  # [rows, width] int32
    sums: tl.tensor,  # [rows, H, PARTS, P] float32
    weights: tl.tensor,  # [rows, H, PARTS, 2] float32: the largest score, and the sum of exp(score - largest)
    q_stride: tl.tensor,
    k_stride: tl.tensor,
    v_stride: tl.tensor,
    width: tl.tensor,
    scale: tl.tensor,
    H: tl.constexpr,
    G: tl.constexpr,
    P: tl.constexpr,
    WINDOW: tl.constexpr,  # 0: none
    BLOCK_SIZE: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_T: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """Grid (rows, G, PARTS): the query heads of one key head against one part of the row's context."""
    row, group, part = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    position = tl.load(positions + row)
    first = tl.maximum(0, position + 1 - WINDOW) if WINDOW > 0 else 0
    share = tl.cdiv(tl.cdiv(position - first, PARTS), BLOCK_T) * BLOCK_T
    start = first + part * share
    end = tl.minimum(start + share, position)
    heads, columns = tl.arange(0, BLOCK_H), tl.arange(0, BLOCK_P)
    mine, within = heads < H // G, columns < P
    head = group * (H // G) + heads
    query = tl.load(
        q + row * q_stride + head[:, None] * P + columns[None, :], mask=mine[:, None] & within[None, :], other=0.0
    )
    largest = tl.full((BLOCK_H,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_H,), dtype=tl.float32)
    acc = tl.zeros((BLOCK_H, BLOCK_P), dtype=tl.float32)
    if part == 0:
        own_key = tl.load(k + row * k_stride + group * P + columns, mask=within, other=0.0)
        own_value = tl.load(v + row * v_stride + group * P + columns, mask=within, other=0.0)
        block = tl.load(blocks + row * width + position // BLOCK_SIZE).to(tl.int64)
        at = ((block * BLOCK_SIZE + position % BLOCK_SIZE) * G + group) * P + columns
        tl.store(keys + at, own_key, mask=within)
        tl.store(values + at, own_value, mask=within)
        largest = tl.sum(query.to(tl.float32) * own_key.to(tl.float32)[None, :], axis=1) * scale
        largest += tl.sum(own_key.to(tl.float32) * 0.0, axis=0)  # a key of -inf must be visible, not just get weight 0
        total += 1.0
        # a query or key that is not finite must be visible in its row, even if its scores would count as -inf
        spoilt = tl.sum(query.to(tl.float32) * 0.0, axis=1) + tl.sum(own_key.to(tl.float32) * 0.0, axis=0)
        acc += own_value.to(tl.float32)[None, :] + spoilt[:, None]
    for t in range(start, end, BLOCK_T):
        seen = t + tl.arange(0, BLOCK_T)
        there = seen < end
        block = tl.load(blocks + row * width + seen // BLOCK_SIZE, mask=there, other=0).to(tl.int64)
        at = ((block * BLOCK_SIZE + seen % BLOCK_SIZE) * G + group) * P
        read = there[:, None] & within[None, :]
        key = tl.load(keys + at[:, None] + columns[None, :], mask=read, other=0.0)
        scores = tl.dot(query.to(OPERAND), tl.trans(key.to(OPERAND)), input_precision=PRECISION) * scale
        scores = tl.where(there[None, :], scores, float("-inf"))
        higher = tl.maximum(largest, tl.max(scores, axis=1))
        odds = tl.exp(scores - higher[:, None])
        kept = tl.exp(largest - higher)
        value = tl.load(values + at[:, None] + columns[None, :], mask=read, other=0.0)
        added = tl.dot(odds.to(value.dtype).to(OPERAND), value.to(OPERAND), input_precision=PRECISION)
        acc = acc * kept[:, None] + added
        total = total * kept + tl.sum(odds, axis=1)
        largest = higher
    place = (row * H + head) * PARTS + part
    tl.store(sums + place[:, None] * P + columns[None, :], acc, mask=mine[:, None] & within[None, :])
    tl.store(weights + place * 2, largest, mask=mine)
    tl.store(weights + place * 2 + 1, total, mask=mine)


@triton.jit
def _join_parts(
    sums: tl.tensor,  # [rows, H, PARTS, P] float32
    weights: tl.tensor,  # [rows, H, PARTS, 2] float32
    out: tl.tensor,  # [rows, H, P]
    P: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK_P: tl.constexpr,
) -> None:
    """Grid (rows * H). Part 0 is never empty, because it holds the row's own position; an empty part has weight 0."""
    at = tl.program_id(0).to(tl.int64)
    parts, columns = tl.arange(0, PARTS), tl.arange(0, BLOCK_P)
    within = columns < P
    largest = tl.load(weights + (at * PARTS + parts) * 2)
    totals = tl.load(weights + (at * PARTS + parts) * 2 + 1)
    odds = tl.exp(largest - tl.max(largest, axis=0))
    read = within[None, :] & (totals > 0)[:, None]
    own = tl.load(sums + (at * PARTS + parts)[:, None] * P + columns[None, :], mask=read, other=0.0)
    result = tl.sum(own * odds[:, None], axis=0) / tl.sum(totals * odds, axis=0)
    tl.store(out + at * P + columns, result.to(out.dtype.element_ty), mask=within)


class TritonDecodeAttention:
    """See `kernels.attention.static.StaticAttention`.

    `caches` are every layer's keys and values [places, G, P] in blocks of `block_size` places.
    """

    def __init__(self, caches: Sequence[tuple[Tensor, Tensor]], block_size: int, rows: int, blocks: int) -> None:
        self._caches = caches
        self._block_size = block_size
        self._width = blocks
        self._tables = RowTables(rows, blocks, caches[0][0].device)
        _, groups, size = caches[0][0].shape
        self._positions = positions_at_a_time(size * caches[0][0].itemsize, _shared_bytes(caches[0][0].device))
        self._parts = _parts(rows * groups, blocks * block_size, self._positions)
        self._scratch: tuple[Tensor, Tensor] | None = None

    def fill(self, positions: Sequence[int], blocks: Sequence[Sequence[int]]) -> None:
        """See `StaticAttention`."""
        self._tables.write(positions, blocks)

    def begin(self) -> None:
        """See `StaticAttention`; the kernels read the buffers directly."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None) -> Tensor:
        """See `StaticAttention`."""
        (rows, heads, size), groups = q.shape, k.shape[1]
        for states in (q, k, v):
            if states.stride()[1:] != (size, 1):
                raise ValueError(f"heads of shape {tuple(states.shape)} with strides {states.stride()} are not dense")
        keys, values = self._caches[layer]
        sums, weights = self._make_scratch(q)
        _attend_part[rows, groups, self._parts](
            *(q, k, v, keys, values, self._tables.positions, self._tables.blocks, sums, weights),
            *(q.stride(0), k.stride(0), v.stride(0), self._width, scale),
            H=heads,
            G=groups,
            P=size,
            WINDOW=window or 0,
            BLOCK_SIZE=self._block_size,
            PARTS=self._parts,
            BLOCK_H=block_of(heads // groups),
            BLOCK_P=block_of(size),
            BLOCK_T=self._positions,
            **DECODE,
            OPERAND=operand(q.dtype),
            PRECISION="ieee",
        )
        out = torch.empty((rows, heads, size), dtype=q.dtype, device=q.device)
        _join_parts[(rows * heads,)](
            sums, weights, out, P=size, PARTS=self._parts, BLOCK_P=block_of(size), num_warps=1 if size <= MIN_DOT else 2
        )
        return out

    def _make_scratch(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Return scratch for the parts' sums and weights, shared by all layers of one shape."""
        shape = (q.shape[0], q.shape[1], self._parts, q.shape[2])
        if self._scratch is None or self._scratch[0].shape != shape:
            sums = torch.empty(shape, dtype=torch.float32, device=q.device)
            self._scratch = sums, torch.empty((*shape[:3], 2), dtype=torch.float32, device=q.device)
        return self._scratch


def positions_at_a_time(key_bytes: int, shared_bytes: int) -> int:
    """Return for how many cached positions shared memory holds keys and values, of so many bytes each, at a time."""
    positions = MOST_POSITIONS
    while positions > MIN_DOT and 2 * positions * key_bytes > shared_bytes * SHARED_SHARE:
        positions //= 2
    return positions


def _shared_bytes(device: torch.device) -> int:
    if device.type != "cuda":
        return SMALLEST_SHARED
    index = torch.cuda.current_device() if device.index is None else device.index
    return int(triton.runtime.driver.active.utils.get_device_properties(index)["max_shared_mem"])


def _parts(programs: int, context: int, positions: int) -> int:
    """Return how many parts, a power of two, to cut a context into if this many programs attend to one part each."""
    parts = 1
    while parts < MOST_PARTS and parts * programs < PROGRAMS and 2 * parts * positions <= context:
        parts *= 2
    return parts
