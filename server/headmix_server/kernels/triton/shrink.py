"""The first half of the terms: z = scale * A x for every routed row; terms with the same inputs share a launch.

z is one float32 row per routed row, term after term in the order of `TERMS`, heads outermost, unpadded: `expand` finds
each term's part from the same ranks. A product over long inputs is cut into PARTS sums, computed in parallel and stored
one after another, so that a step of few rows keeps more than a few programs busy; `expand` adds them.
"""

import triton
import triton.language as tl

from headmix_server.kernels.triton.terms import find_term, tile_rows


@triton.jit
def _shrink_block(
    inputs: tl.tensor,
    weights: tl.tensor,
    z: tl.tensor,
    batch_rows: tl.tensor,
    real: tl.tensor,
    scale: tl.tensor,
    first: tl.tensor,
    count: tl.tensor,
    part: tl.tensor,
    IN: tl.constexpr,
    SPAN: tl.constexpr,  # inputs per part
    INPUT_STRIDE: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> None:
    """Compute rows `first` to first + BLOCK_R of `count` rank rows [count, IN] at `weights`, over one part's inputs.

    `z` points at the term's values in each row.
    """
    ranks = first + tl.arange(0, BLOCK_R)
    acc = tl.zeros((BLOCK_M, BLOCK_R), dtype=tl.float32)
    for start in range(0, SPAN, BLOCK_K):
        columns = part * SPAN + start + tl.arange(0, BLOCK_K)
        within = columns < IN
        x = tl.load(
            inputs + batch_rows[:, None] * INPUT_STRIDE + columns[None, :],
            mask=real[:, None] & within[None, :],
            other=0.0,
        )
        a = tl.load(
            weights + ranks[:, None].to(tl.int64) * IN + columns[None, :],
            mask=(ranks < count)[:, None] & within[None, :],
            other=0.0,
        )
        acc = tl.dot(x.to(OPERAND), tl.trans(a.to(OPERAND)), acc, input_precision=PRECISION)
    own = z[:, None] + part * count + ranks[None, :]
    tl.store(own, acc * scale, mask=real[:, None] & (ranks < count)[None, :])


@triton.jit(do_not_specialize=["layer", "z_stride"])
def shrink(
    inputs: tl.tensor,  # [tokens, IN]
    z: tl.tensor,  # [routed rows, z_stride] float32
    arena: tl.tensor,
    offsets: tl.tensor,
    ranks: tl.tensor,
    scales: tl.tensor,
    tile_slots: tl.tensor,
    tile_starts: tl.tensor,
    rows: tl.tensor,
    layer: tl.tensor,
    z_stride: tl.tensor,
    TERMS: tl.constexpr,  # tuple of term indices
    HEADS: tl.constexpr,  # tuple: the number of heads of each term; 1 for a shared term
    NUM_TERMS: tl.constexpr,
    NUM_LAYERS: tl.constexpr,
    IN: tl.constexpr,
    SPAN: tl.constexpr,
    PARTS: tl.constexpr,
    PROGRAMS: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> None:
    """Grid (tiles, PROGRAMS): the programs of a tile take its blocks of rank rows in turn, whatever the ranks.

    A head term from x is one matrix [heads * r, IN], so head and shared terms are computed in the same way.
    """
    tile = tl.program_id(0)
    start, end = tl.load(tile_starts + tile), tl.load(tile_starts + tile + 1)
    if start == end:
        return
    slot = tl.load(tile_slots + tile)
    places, batch_rows, real = tile_rows(rows, start, end, BLOCK_M)
    block = tl.program_id(1)
    z_rows = z + places.to(tl.int64) * z_stride
    for index in tl.static_range(len(TERMS)):
        rank, at_A, _, _ = find_term(offsets, ranks, slot, layer, TERMS[index], NUM_TERMS, NUM_LAYERS)
        count = rank * HEADS[index]
        blocks = tl.cdiv(count, BLOCK_R) * PARTS
        scale = tl.load(scales + slot * NUM_TERMS + TERMS[index])
        while block < blocks:
            _shrink_block(
                inputs,
                arena + at_A,
                z_rows,
                batch_rows,
                real,
                scale,
                block // PARTS * BLOCK_R,
                count,
                block % PARTS,
                IN,
                SPAN,
                IN,
                OPERAND,
                PRECISION,
                BLOCK_M,
                BLOCK_R,
                BLOCK_K,
            )
            block += PROGRAMS
        block -= blocks
        z_rows += count * PARTS


@triton.jit(do_not_specialize=["layer", "z_stride"])
def shrink_heads(
    inputs: tl.tensor,  # [tokens, H * P]
    z: tl.tensor,  # [routed rows, z_stride] float32
    arena: tl.tensor,
    offsets: tl.tensor,
    ranks: tl.tensor,
    scales: tl.tensor,
    tile_slots: tl.tensor,
    tile_starts: tl.tensor,
    rows: tl.tensor,
    layer: tl.tensor,
    z_stride: tl.tensor,
    HEAD_TERM: tl.constexpr,
    SHARED_TERM: tl.constexpr,
    NUM_TERMS: tl.constexpr,
    NUM_LAYERS: tl.constexpr,
    H: tl.constexpr,
    P: tl.constexpr,
    SPAN: tl.constexpr,
    PARTS: tl.constexpr,
    PROGRAMS: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> None:
    """Grid (tiles, H + PROGRAMS): each head's own rank rows on its own part of the inputs, then the shared term's.

    z holds the head term's H * r values, which are not cut into parts, then those of the shared term.
    """
    tile = tl.program_id(0)
    start, end = tl.load(tile_starts + tile), tl.load(tile_starts + tile + 1)
    if start == end:
        return
    slot = tl.load(tile_slots + tile)
    places, batch_rows, real = tile_rows(rows, start, end, BLOCK_M)
    z_rows = z + places.to(tl.int64) * z_stride
    rank, at_A, _, _ = find_term(offsets, ranks, slot, layer, HEAD_TERM, NUM_TERMS, NUM_LAYERS)
    head = tl.program_id(1)
    if head < H:
        scale = tl.load(scales + slot * NUM_TERMS + HEAD_TERM)
        for first in range(0, rank, BLOCK_R):
            _shrink_block(
                inputs + head * P,
                arena + at_A + head * rank * P,
                z_rows + head * rank,
                batch_rows,
                real,
                scale,
                first,
                rank,
                0,
                P,
                P,
                H * P,
                OPERAND,
                PRECISION,
                BLOCK_M,
                BLOCK_R,
                BLOCK_P,
            )
    else:
        shared, shared_A, _, _ = find_term(offsets, ranks, slot, layer, SHARED_TERM, NUM_TERMS, NUM_LAYERS)
        scale = tl.load(scales + slot * NUM_TERMS + SHARED_TERM)
        block = head - H
        while block < tl.cdiv(shared, BLOCK_R) * PARTS:
            _shrink_block(
                inputs,
                arena + shared_A,
                z_rows + rank * H,
                batch_rows,
                real,
                scale,
                block // PARTS * BLOCK_R,
                shared,
                block % PARTS,
                H * P,
                SPAN,
                H * P,
                OPERAND,
                PRECISION,
                BLOCK_M,
                BLOCK_R,
                BLOCK_K,
            )
            block += PROGRAMS
