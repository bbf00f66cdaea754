"""The second half of the terms: B z and the biases, added to the base's projections in place.

Every program owns a block of the projections' columns for one tile, so nothing is added twice and no atomics are
needed. Sums are float32 and rounded once.
"""

import triton
import triton.language as tl

from headmix_server.kernels.triton.terms import find_term, tile_rows


@triton.jit
def _expand_term(
    acc: tl.tensor,  # [BLOCK_M, BLOCK_N]
    z: tl.tensor,  # [BLOCK_M] where each row's values for this term begin
    weights: tl.tensor,  # [count, STRIDE]
    real: tl.tensor,
    columns: tl.tensor,
    within: tl.tensor,
    count: tl.tensor,
    part: tl.tensor,
    PARTS: tl.constexpr,
    STRIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr,
) -> tl.tensor:
    """Return acc + z B for the given columns of B's rank rows.

    z is the sum of PARTS rows, each `part` values after the previous one.
    """
    for first in range(0, count, BLOCK_R):
        ranks = first + tl.arange(0, BLOCK_R)
        there = ranks < count
        known = real[:, None] & there[None, :]
        numbers = tl.load(z[:, None] + ranks[None, :], mask=known, other=0.0)
        for more in tl.static_range(1, PARTS):
            numbers += tl.load(z[:, None] + more * part + ranks[None, :], mask=known, other=0.0)
        b = tl.load(
            weights + ranks[:, None].to(tl.int64) * STRIDE + columns[None, :],
            mask=there[:, None] & within[None, :],
            other=0.0,
        )
        acc = tl.dot(numbers, b.to(tl.float32), acc, input_precision=PRECISION)
    return acc


@triton.jit
def _add_bias(
    acc: tl.tensor,
    arena: tl.tensor,
    at_bias: tl.tensor,
    first: tl.tensor,
    columns: tl.tensor,
    within: tl.tensor,
    scale: tl.tensor,
) -> tl.tensor:
    """Return acc + scale * bias[first + columns]; a term may have none."""
    bias = tl.load(arena + at_bias + first + columns, mask=within & (at_bias >= 0), other=0.0)
    return acc + scale * bias.to(tl.float32)[None, :]


@triton.jit
def _add_to(out: tl.tensor, acc: tl.tensor, mask: tl.tensor) -> None:
    before = tl.load(out, mask=mask, other=0.0)
    tl.store(out, (before.to(tl.float32) + acc).to(before.dtype), mask=mask)


@triton.jit
def _value_from_key(
    acc: tl.tensor,
    key: tl.tensor,  # [BLOCK_M, BLOCK_P] the base's own key of this head
    weights_A: tl.tensor,  # [rank, P] of this head
    weights_B: tl.tensor,  # [rank, P] of this head
    columns: tl.tensor,
    within: tl.tensor,
    rank: tl.tensor,
    scale: tl.tensor,
    P: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr,
) -> tl.tensor:
    """Return acc + scale * B (A key): both halves of a block-diagonal term, with z kept in registers."""
    for first in range(0, rank, BLOCK_R):
        ranks = first + tl.arange(0, BLOCK_R)
        there = (ranks < rank)[:, None] & within[None, :]
        at = ranks[:, None] * P + columns[None, :]
        a = tl.load(weights_A + at, mask=there, other=0.0)
        numbers = tl.dot(key.to(OPERAND), tl.trans(a.to(OPERAND)), input_precision=PRECISION) * scale
        b = tl.load(weights_B + at, mask=there, other=0.0)
        acc = tl.dot(numbers, b.to(tl.float32), acc, input_precision=PRECISION)
    return acc


@triton.jit(do_not_specialize=["layer", "z_stride"])
def expand_qkv(
    qkv: tl.tensor,  # [tokens, (H + 2 G) * P]
    z: tl.tensor,  # [routed rows, z_stride] float32: q head, q shared, k shared, v head from x, v shared
    arena: tl.tensor,
    offsets: tl.tensor,
    ranks: tl.tensor,
    scales: tl.tensor,
    tile_slots: tl.tensor,
    tile_starts: tl.tensor,
    rows: tl.tensor,
    layer: tl.tensor,
    z_stride: tl.tensor,
    Q_HEAD: tl.constexpr,  # the terms' indices
    Q_SHARED: tl.constexpr,
    K_SHARED: tl.constexpr,
    V_FROM_KEY: tl.constexpr,
    V_FROM_X: tl.constexpr,
    V_SHARED: tl.constexpr,
    NUM_TERMS: tl.constexpr,
    NUM_LAYERS: tl.constexpr,
    H: tl.constexpr,
    G: tl.constexpr,
    P: tl.constexpr,
    PARTS: tl.constexpr,  # partial sums of every term's values
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_P: tl.constexpr,
) -> None:
    """Grid (tiles, H + G): one program per query head, then one per key/value head.

    The value's term from the key reads the base's own key. The program that adds to the key is also the one that reads
    it, so it reads before it adds, and no other program touches it.
    """
    tile = tl.program_id(0)
    start, end = tl.load(tile_starts + tile), tl.load(tile_starts + tile + 1)
    if start == end:
        return
    slot = tl.load(tile_slots + tile)
    places, batch_rows, real = tile_rows(rows, start, end, BLOCK_M)
    unit = tl.program_id(1)
    columns = tl.arange(0, BLOCK_P)
    within = columns < P
    mask = real[:, None] & within[None, :]
    z_rows = z + places.to(tl.int64) * z_stride
    out = qkv + batch_rows[:, None] * ((H + 2 * G) * P) + columns[None, :]
    q_rank, _, q_B, q_bias = find_term(offsets, ranks, slot, layer, Q_HEAD, NUM_TERMS, NUM_LAYERS)
    qs_rank, _, qs_B, _ = find_term(offsets, ranks, slot, layer, Q_SHARED, NUM_TERMS, NUM_LAYERS)
    if unit < H:
        if q_rank + qs_rank > 0:
            acc = tl.zeros((BLOCK_M, BLOCK_P), dtype=tl.float32)
            head_B = arena + q_B + unit * q_rank * P
            head_z = z_rows + unit * q_rank
            acc = _expand_term(
                acc, head_z, head_B, real, columns, within, q_rank, q_rank * H, PARTS, P, PRECISION, BLOCK_R
            )
            shared_B = arena + qs_B + unit * P
            shared_z = z_rows + q_rank * H * PARTS
            acc = _expand_term(
                acc, shared_z, shared_B, real, columns, within, qs_rank, qs_rank, PARTS, H * P, PRECISION, BLOCK_R
            )
            if q_rank > 0:
                scale = tl.load(scales + slot * NUM_TERMS + Q_HEAD)
                acc = _add_bias(acc, arena, q_bias, unit * P, columns, within, scale)
            _add_to(out + unit * P, acc, mask)
    else:
        head = unit - H
        ks_rank, _, ks_B, _ = find_term(offsets, ranks, slot, layer, K_SHARED, NUM_TERMS, NUM_LAYERS)
        vk_rank, vk_A, vk_B, vk_bias = find_term(offsets, ranks, slot, layer, V_FROM_KEY, NUM_TERMS, NUM_LAYERS)
        vx_rank, _, vx_B, vx_bias = find_term(offsets, ranks, slot, layer, V_FROM_X, NUM_TERMS, NUM_LAYERS)
        vs_rank, _, vs_B, _ = find_term(offsets, ranks, slot, layer, V_SHARED, NUM_TERMS, NUM_LAYERS)
        z_rows += (q_rank * H + qs_rank) * PARTS
        key_at = out + (H + head) * P
        key = tl.load(key_at, mask=mask, other=0.0)
        acc = tl.zeros((BLOCK_M, BLOCK_P), dtype=tl.float32)
        if vk_rank > 0:
            scale = tl.load(scales + slot * NUM_TERMS + V_FROM_KEY)
            at = head * vk_rank * P
            acc = _value_from_key(
                acc,
                key,
                arena + vk_A + at,
                arena + vk_B + at,
                columns,
                within,
                vk_rank,
                scale,
                P,
                OPERAND,
                PRECISION,
                BLOCK_R,
            )
            acc = _add_bias(acc, arena, vk_bias, head * P, columns, within, scale)
        if vx_rank > 0:
            head_z = z_rows + ks_rank * PARTS + head * vx_rank
            head_B = arena + vx_B + head * vx_rank * P
            acc = _expand_term(
                acc, head_z, head_B, real, columns, within, vx_rank, vx_rank * G, PARTS, P, PRECISION, BLOCK_R
            )
            scale = tl.load(scales + slot * NUM_TERMS + V_FROM_X)
            acc = _add_bias(acc, arena, vx_bias, head * P, columns, within, scale)
        shared_z = z_rows + (ks_rank + vx_rank * G) * PARTS
        shared_B = arena + vs_B + head * P
        acc = _expand_term(
            acc, shared_z, shared_B, real, columns, within, vs_rank, vs_rank, PARTS, G * P, PRECISION, BLOCK_R
        )
        if vk_rank + vx_rank + vs_rank > 0:
            _add_to(out + (H + G + head) * P, acc, mask)
        if ks_rank > 0:
            delta = tl.zeros((BLOCK_M, BLOCK_P), dtype=tl.float32)
            key_B = arena + ks_B + head * P
            delta = _expand_term(
                delta, z_rows, key_B, real, columns, within, ks_rank, ks_rank, PARTS, G * P, PRECISION, BLOCK_R
            )
            tl.store(key_at, (key.to(tl.float32) + delta).to(key.dtype), mask=mask)


@triton.jit(do_not_specialize=["layer", "z_stride"])
def expand(
    out: tl.tensor,  # [tokens, OUT]
    z: tl.tensor,  # [routed rows, z_stride] float32, term after term
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
    PARTS: tl.constexpr,  # tuple: the number of partial sums of each term
    NUM_TERMS: tl.constexpr,
    NUM_LAYERS: tl.constexpr,
    OUT: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_N: tl.constexpr,
) -> None:
    """Grid (tiles, OUT / BLOCK_N): terms whose B is a matrix [heads * r, OUT], so that the sum combines their heads."""
    tile = tl.program_id(0)
    start, end = tl.load(tile_starts + tile), tl.load(tile_starts + tile + 1)
    if start == end:
        return
    slot = tl.load(tile_slots + tile)
    places, batch_rows, real = tile_rows(rows, start, end, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    within = columns < OUT
    z_rows = z + places.to(tl.int64) * z_stride
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    total = 0
    for index in tl.static_range(len(TERMS)):
        rank, _, at_B, at_bias = find_term(offsets, ranks, slot, layer, TERMS[index], NUM_TERMS, NUM_LAYERS)
        count = rank * HEADS[index]
        weights = arena + at_B
        acc = _expand_term(
            acc, z_rows, weights, real, columns, within, count, count, PARTS[index], OUT, PRECISION, BLOCK_R
        )
        if rank > 0:
            scale = tl.load(scales + slot * NUM_TERMS + TERMS[index])
            acc = _add_bias(acc, arena, at_bias, 0, columns, within, scale)
        z_rows += count * PARTS[index]
        total += count
    if total > 0:
        _add_to(out + batch_rows[:, None] * OUT + columns[None, :], acc, real[:, None] & within[None, :])
