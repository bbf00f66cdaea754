"""Attention of a ragged batch over a paged key/value cache, by torch's own scaled-dot-product kernels.

Decode rows of all sequences go through one padded call, every prefill chunk through one of its own. The cache is a
flat array of token places; which sequence owns which is the caller's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True, slots=True)
class Span:
    """One sequence's share of the batch: `count` rows from `row`, at positions from `start`.

    `places` holds the cache place of every position up to the end of the span.
    """

    row: int
    count: int
    start: int
    places: Tensor  # [start + count]


@dataclass(frozen=True, slots=True)
class _Decode:
    rows: Tensor  # [n] batch rows
    places: Tensor  # [n, longest context]; padding repeats place 0
    mask: Tensor | None  # [n, 1, 1, longest context] added to the scores; None where all contexts are equally long


@dataclass(frozen=True, slots=True)
class _Prefill:
    rows: slice
    places: Tensor  # [context]
    mask: Tensor | None  # [count, context] added to the scores; None: causal from position 0


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """Everything attention needs to know of a step, the same for every layer."""

    write_places: Tensor  # [tokens] where each row's key and value go
    decode: _Decode | None
    prefills: tuple[_Prefill, ...]


def plan_attention(spans: Sequence[Span], dtype: torch.dtype) -> AttentionPlan:
    """Prepare a step's attention; the spans cover the batch's rows in order."""
    decodes = [span for span in spans if span.count == 1]
    return AttentionPlan(
        write_places=torch.cat([span.places[span.start :] for span in spans]),
        decode=_plan_decode(decodes, dtype) if decodes else None,
        prefills=tuple(_plan_prefill(span, dtype) for span in spans if span.count > 1),
    )


def _plan_decode(spans: Sequence[Span], dtype: torch.dtype) -> _Decode:
    places = torch.nn.utils.rnn.pad_sequence([span.places for span in spans], batch_first=True)
    lengths = torch.tensor([span.places.numel() for span in spans], device=places.device)
    mask = None
    if int(lengths.min()) != places.shape[1]:
        padding = torch.arange(places.shape[1], device=places.device) >= lengths[:, None]
        mask = _additive(padding, dtype)[:, None, None, :]
    return _Decode(torch.tensor([span.row for span in spans], device=places.device), places, mask)


def _plan_prefill(span: Span, dtype: torch.dtype) -> _Prefill:
    mask = None
    if span.start > 0:
        device = span.places.device
        positions = torch.arange(span.start, span.start + span.count, device=device)
        mask = _additive(torch.arange(span.places.numel(), device=device) > positions[:, None], dtype)
    return _Prefill(slice(span.row, span.row + span.count), span.places, mask)


def _additive(forbidden: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(forbidden.shape, dtype=dtype, device=forbidden.device).masked_fill_(forbidden, float("-inf"))


def paged_attention(
    q: Tensor, k: Tensor, v: Tensor, cache: tuple[Tensor, Tensor], plan: AttentionPlan, scale: float
) -> Tensor:
    """Store k and v [tokens, G, P] in the cache [places, G, P] and attend with q [tokens, H, P]; returns q's shape."""
    keys, values = cache
    keys.index_copy_(0, plan.write_places, k)
    values.index_copy_(0, plan.write_places, v)
    out = torch.empty_like(q)
    if plan.decode is not None:
        out.index_copy_(0, plan.decode.rows, _attend_decode(q, keys, values, plan.decode, scale))
    for prefill in plan.prefills:
        out[prefill.rows] = _attend_prefill(q[prefill.rows], keys, values, prefill, scale)
    return out


def _attend_decode(q: Tensor, keys: Tensor, values: Tensor, decode: _Decode, scale: float) -> Tensor:
    query = q.index_select(0, decode.rows).unsqueeze(2)  # [n, H, 1, P]
    n, context = decode.places.shape
    flat = decode.places.flatten()
    key = keys.index_select(0, flat).view(n, context, *keys.shape[1:]).transpose(1, 2)  # [n, G, context, P]
    value = values.index_select(0, flat).view(n, context, *values.shape[1:]).transpose(1, 2)
    return _attend(query, key, value, decode.mask, scale).squeeze(2)


def _attend_prefill(q: Tensor, keys: Tensor, values: Tensor, prefill: _Prefill, scale: float) -> Tensor:
    query = q.transpose(0, 1).unsqueeze(0)  # [1, H, count, P]
    key = keys.index_select(0, prefill.places).transpose(0, 1).unsqueeze(0)  # [1, G, context, P]
    value = values.index_select(0, prefill.places).transpose(0, 1).unsqueeze(0)
    return _attend(query, key, value, prefill.mask, scale, causal=prefill.mask is None).squeeze(0).transpose(0, 1)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, *, causal: bool = False) -> Tensor:
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=True)
