"""The draw of every row's token on CUDA, one launch per step: one program per row, which reads its scores a few times.

See `kernels.sampling.reference` for what it computes and what it is tested against. Nothing is sorted: the odds above a
few levels show which scores a filter's bound can be among, those are collected in `scratch`, and the bound's bits are
found there, three at a time. Masks, biases, penalties and log-probabilities are torch's operations. Nothing is read
back.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from headmix_server.kernels.sampling.choice import Choices
from headmix_server.kernels.sampling.plan import NO_TOKEN, NOTHING_ALLOWED, Number, Real, SamplingPlan
from headmix_server.kernels.sampling.reference import complete, lower, most_probable

BLOCK = 1024
"""Scores of a row that a program reads at a time."""

_WARPS = 8
_MINUS_INFINITY = tl.constexpr(float("-inf"))
_NO_TOKEN, _NOTHING_ALLOWED = tl.constexpr(NO_TOKEN), tl.constexpr(NOTHING_ALLOWED)
_REALS, _NUMBERS = tl.constexpr(len(Real)), tl.constexpr(len(Number))
_INVERSE_TEMPERATURE, _TOP_P = tl.constexpr(int(Real.INVERSE_TEMPERATURE)), tl.constexpr(int(Real.TOP_P))
_LOG_MIN_P = tl.constexpr(int(Real.LOG_MIN_P))
_SEED, _POSITION = tl.constexpr(int(Number.SEED)), tl.constexpr(int(Number.POSITION))
_TOP_K = tl.constexpr(int(Number.TOP_K))
_LEVELS = tl.constexpr(8)
_GROUP = tl.constexpr(16)
_FAR = tl.constexpr(2**31 - 1)


@triton.jit
def _find_peak(scores: tl.tensor, width: tl.tensor, BLOCK: tl.constexpr) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Return the largest score, the first token that has it, and whether any score is NaN."""
    best = tl.full((BLOCK,), _MINUS_INFINITY, dtype=tl.float32)
    where = tl.full((BLOCK,), _FAR, dtype=tl.int32)
    odd = tl.zeros((BLOCK,), dtype=tl.int32)
    for start in range(0, width, BLOCK):
        token = start + tl.arange(0, BLOCK)
        score = tl.load(scores + token, mask=token < width, other=_MINUS_INFINITY)
        odd = odd | (score != score).to(tl.int32)
        higher = (score > best) | ((score == best) & (token < where))
        where = tl.where(higher, token, where)
        best = tl.where(higher, score, best)
    peak = tl.max(best, axis=0)
    first = tl.min(tl.where(best == peak, where, _FAR), axis=0)
    return peak, first, tl.max(odd, axis=0)


@triton.jit
def _weigh_levels(
    scores: tl.tensor, width: tl.tensor, peak: tl.tensor, inverse: tl.tensor, levels: tl.tensor, BLOCK: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """Return how many x are at or above each level, and their odds."""
    counts = tl.zeros((_LEVELS, BLOCK), dtype=tl.float32)
    masses = tl.zeros((_LEVELS, BLOCK), dtype=tl.float32)
    for start in range(0, width, BLOCK):
        token = start + tl.arange(0, BLOCK)
        score = tl.load(scores + token, mask=token < width, other=_MINUS_INFINITY)
        x = (score - peak) * inverse
        within = (x[None, :] >= levels[:, None]) & (token < width)[None, :]
        counts += within.to(tl.float32)
        masses += tl.where(within, tl.exp(x)[None, :], 0.0)
    return tl.sum(counts, axis=1), tl.sum(masses, axis=1)


@triton.jit
def _put_together(
    scores: tl.tensor,
    scratch: tl.tensor,
    width: tl.tensor,
    peak: tl.tensor,
    inverse: tl.tensor,
    level: tl.tensor,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """Write the scores whose x is at or above the level one after the other; return how many there are."""
    count = 0
    for start in range(0, width, BLOCK):
        token = start + tl.arange(0, BLOCK)
        score = tl.load(scores + token, mask=token < width, other=_MINUS_INFINITY)
        kept = ((score - peak) * inverse >= level) & (token < width)
        place = count + tl.cumsum(kept.to(tl.int32), axis=0) - 1
        tl.store(scratch + place, score, mask=kept)
        count += tl.sum(kept.to(tl.int32), axis=0)
    tl.debug_barrier()  # every thread reads what others have written
    return count


@triton.jit
def _order(x: tl.tensor) -> tl.tensor:
    """Return integers from 0 up, below 2^32, in the order of the numbers."""
    bits = tl.where(x == 0.0, 0.0, x).to(tl.int32, bitcast=True).to(tl.int64) & 0xFFFFFFFF
    return tl.where(bits >= 0x80000000, 0xFFFFFFFF - bits, bits + 0x80000000)


@triton.jit
def _find_bound(
    listed: tl.tensor,
    count: tl.tensor,
    peak: tl.tensor,
    inverse: tl.tensor,
    least: tl.tensor,
    wanted: tl.tensor,
    WEIGHTED: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """Return the largest bound that listed scores of the wanted count, or x of the wanted odds, reach."""
    low = tl.zeros((), dtype=tl.int64)
    ways = tl.arange(0, 8).to(tl.int64)
    step = tl.full((), 1 << 30, dtype=tl.int64)
    for _ in range(11):
        bounds = low + ways * step
        weights = tl.zeros((8, BLOCK), dtype=tl.float32)
        for start in range(0, count, BLOCK):
            place = start + tl.arange(0, BLOCK)
            score = tl.load(listed + place, mask=place < count, other=_MINUS_INFINITY)
            if WEIGHTED:
                x = (score - peak) * inverse
                weight = tl.where((score >= least) & (place < count), tl.exp(x), 0.0)
                key = _order(x)
            else:
                weight = (place < count).to(tl.float32)
                key = _order(score)
            weights += tl.where(key[None, :] >= bounds[:, None], weight[None, :], 0.0)
        reached = (tl.sum(weights, axis=1) >= wanted) & (ways > 0)
        low += tl.sum(reached.to(tl.int64), axis=0) * step
        step = step // 8
    bits = tl.where(low >= 0x80000000, low - 0x80000000, 0xFFFFFFFF - low)
    return bits.to(tl.uint32).to(tl.float32, bitcast=True)


@triton.jit
def _sum_odds(
    listed: tl.tensor, count: tl.tensor, peak: tl.tensor, inverse: tl.tensor, least: tl.tensor, BLOCK: tl.constexpr
) -> tl.tensor:
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, count, BLOCK):
        place = start + tl.arange(0, BLOCK)
        score = tl.load(listed + place, mask=place < count, other=_MINUS_INFINITY)
        total += tl.where(score >= least, tl.exp((score - peak) * inverse), 0.0)
    return tl.sum(total, axis=0)


@triton.jit
def _race(
    scores: tl.tensor,
    token: tl.tensor,
    word: tl.tensor,
    width: tl.tensor,
    peak: tl.tensor,
    inverse: tl.tensor,
    least_score: tl.tensor,
    least_x: tl.tensor,
    best: tl.tensor,
    winner: tl.tensor,
) -> tuple[tl.tensor, tl.tensor]:
    """Compare some tokens, with their words, with the best so far; in a tie the first wins."""
    score = tl.load(scores + token, mask=token < width, other=_MINUS_INFINITY)
    x = (score - peak) * inverse
    noise = -tl.log(-tl.log((word.to(tl.float64) + 0.5) * 2.3283064365386963e-10))  # 2^-32
    key = tl.where((score >= least_score) & (x >= least_x) & (token < width), x.to(tl.float64) + noise, _MINUS_INFINITY)
    faster = key > best
    return tl.where(faster, key, best), tl.where(faster, token, winner)


@triton.jit
def _draw_kernel(
    scores: tl.tensor,  # [rows, width] float32, dense
    scratch: tl.tensor,  # [rows, width] float32
    reals: tl.tensor,  # [rows, REALS]
    numbers: tl.tensor,  # [rows, NUMBERS] int64
    tokens: tl.tensor,  # [rows] int64
    width: tl.tensor,
    FILTERS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Grid (rows). Without FILTERS no row has top-k or top-p."""
    row = tl.program_id(0).to(tl.int64)
    scores += row * width
    scratch += row * width
    inverse = tl.load(reals + row * _REALS + _INVERSE_TEMPERATURE)
    peak, first, odd = _find_peak(scores, width, BLOCK)
    token = first
    if (odd != 0) | (tl.abs(peak) == float("inf")):
        banned = (odd == 0) & (peak == _MINUS_INFINITY)
        token = tl.where(banned, _NOTHING_ALLOWED, _NO_TOKEN)
    elif inverse > 0:
        least_score = tl.full((), _MINUS_INFINITY, dtype=tl.float32)
        least_x = tl.load(reals + row * _REALS + _LOG_MIN_P)
        if FILTERS:
            top_p = tl.load(reals + row * _REALS + _TOP_P)
            top_k = tl.load(numbers + row * _NUMBERS + _TOP_K)
            few = (top_k > 0) & (top_k < width)
            if few | (top_p < 1):
                ways = tl.arange(0, _LEVELS)
                levels = tl.where(ways < _LEVELS - 1, -tl.exp2(ways.to(tl.float32)), _MINUS_INFINITY)
                counts, masses = _weigh_levels(scores, width, peak, inverse, levels, BLOCK)
                total = tl.sum(tl.where(ways == _LEVELS - 1, masses, 0.0), axis=0)
                reached = tl.where(few, counts >= top_k.to(tl.float32), masses >= top_p * total)
                missed = tl.sum(tl.where(reached, 0, 1), axis=0)
                level = tl.max(tl.where(ways == missed, levels, _MINUS_INFINITY), axis=0)
                count = _put_together(scores, scratch, width, peak, inverse, level, BLOCK)
                if few:
                    wanted = top_k.to(tl.float32)
                    least_score = _find_bound(scratch, count, peak, inverse, least_score, wanted, False, BLOCK)
                    total = _sum_odds(scratch, count, peak, inverse, least_score, BLOCK)
                if top_p < 1:
                    cut = _find_bound(scratch, count, peak, inverse, least_score, top_p * total, True, BLOCK)
                    least_x = tl.maximum(least_x, cut)
        seed = tl.load(numbers + row * _NUMBERS + _SEED)
        position = tl.load(numbers + row * _NUMBERS + _POSITION).to(tl.uint32)
        PART: tl.constexpr = BLOCK // 4
        best = tl.full((PART,), _MINUS_INFINITY, dtype=tl.float64)
        winner = tl.full((PART,), _FAR, dtype=tl.int32)
        for start in range(0, width, BLOCK):
            counter = start // 4 + tl.arange(0, PART)
            zeros = tl.zeros((PART,), dtype=tl.uint32)
            words = tl.philox(seed, counter.to(tl.uint32), zeros + position, zeros, zeros)
            runner = counter // _GROUP * (4 * _GROUP) + counter % _GROUP
            for part in tl.static_range(4):
                best, winner = _race(
                    *(scores, runner + part * _GROUP, words[part], width, peak, inverse),
                    *(least_score, least_x, best, winner),
                )
        fastest = tl.max(best, axis=0)
        token = tl.min(tl.where(best == fastest, winner, _FAR), axis=0)
    tl.store(tokens + row, token.to(tl.int64))


def triton_choose(logits: Tensor, added: Tensor, plan: SamplingPlan) -> Choices:
    """See `kernels.sampling.choice.Choose`."""
    scores = logits.float() if added.shape[1] == 0 else torch.cat([logits.float(), added], dim=1)
    lowered = lower(scores, plan)
    tokens = _draw(lowered.contiguous(), plan) if plan.sampled else most_probable(lowered)
    return complete(scores, tokens, plan, logits.shape[1])


def _draw(scores: Tensor, plan: SamplingPlan) -> Tensor:
    rows, width = scores.shape
    tokens = torch.empty(rows, dtype=torch.int64, device=scores.device)
    scratch = torch.empty_like(scores) if plan.filters else scores
    _draw_kernel[(rows,)](
        *(scores, scratch, plan.reals, plan.numbers, tokens, width),
        FILTERS=plan.filters,
        BLOCK=BLOCK,
        num_warps=_WARPS,
    )
    return tokens
