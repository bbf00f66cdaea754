"""Attention of a ragged batch, by torch's own scaled-dot-product kernels: over a paged cache, or within whole texts.

With a cache, decode rows of all sequences go through one padded call, every prefill chunk through one of its own. The
cache is a flat array of token places; which sequence owns which is the caller's. Bidirectional attention needs no
cache: a text's rows see each other and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


class StepAttention(Protocol):
    """The attention of one step, the same object for every layer."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None) -> Tensor:
        """Attend with q [tokens, H, P] to the rows' own k and v [tokens, G, P] and what came before; returns q's shape.

        `window` None looks at everything, n at the last n positions, a token's own included.
        """
        ...


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
    """Everything attention needs to know of a step, the same for every layer with the same window."""

    write_places: Tensor  # [tokens] where each row's key and value go
    decode: _Decode | None
    prefills: tuple[_Prefill, ...]


class PagedAttention:
    """A causal step over `caches`, every layer's keys and values [places, G, P]; the spans cover the rows in order."""

    def __init__(self, caches: Sequence[tuple[Tensor, Tensor]], spans: Sequence[Span], dtype: torch.dtype) -> None:
        self._caches = caches
        self._spans = spans
        self._dtype = dtype
        self._plans: dict[int | None, AttentionPlan] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None) -> Tensor:
        """See `StepAttention`."""
        if window not in self._plans:
            self._plans[window] = plan_attention(self._spans, self._dtype, window)
        return paged_attention(q, k, v, self._caches[layer], self._plans[window], scale)


class WholeAttention:
    """A bidirectional step over whole texts; `texts` are the batch rows of each."""

    def __init__(self, texts: Sequence[slice]) -> None:
        self._texts = texts

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None) -> Tensor:
        """See `StepAttention`; a window is not defined here."""
        if window is not None:
            raise ValueError(f"layer {layer}: no window in bidirectional attention")
        out = torch.empty_like(q)
        for rows in self._texts:
            query, key, value = (states[rows].transpose(0, 1).unsqueeze(0) for states in (q, k, v))
            out[rows] = _attend(query, key, value, None, scale).squeeze(0).transpose(0, 1)
        return out


def plan_attention(spans: Sequence[Span], dtype: torch.dtype, window: int | None = None) -> AttentionPlan:
    """Prepare a step's causal attention; the spans cover the batch's rows in order."""
    decodes = [span for span in spans if span.count == 1]
    return AttentionPlan(
        write_places=torch.cat([span.places[span.start :] for span in spans]),
        decode=_plan_decode(decodes, dtype, window) if decodes else None,
        prefills=tuple(_plan_prefill(span, dtype, window) for span in spans if span.count > 1),
    )


def _first_seen(span: Span, window: int | None) -> int:
    """Return the first position that any of the span's rows looks at."""
    return 0 if window is None else max(0, span.start + 1 - window)


def _plan_decode(spans: Sequence[Span], dtype: torch.dtype, window: int | None) -> _Decode:
    contexts = [span.places[_first_seen(span, window) :] for span in spans]
    places = torch.nn.utils.rnn.pad_sequence(contexts, batch_first=True)
    lengths = torch.tensor([context.numel() for context in contexts], device=places.device)
    mask = None
    if int(lengths.min()) != places.shape[1]:
        padding = torch.arange(places.shape[1], device=places.device) >= lengths[:, None]
        mask = _additive(padding, dtype)[:, None, None, :]
    return _Decode(torch.tensor([span.row for span in spans], device=places.device), places, mask)


def _plan_prefill(span: Span, dtype: torch.dtype, window: int | None) -> _Prefill:
    mask, first, end = None, _first_seen(span, window), span.start + span.count
    if span.start > 0 or (window is not None and window < end):
        device = span.places.device
        rows = torch.arange(span.start, end, device=device)[:, None]
        keys = torch.arange(first, end, device=device)
        forbidden = keys > rows
        if window is not None:
            forbidden |= keys <= rows - window
        mask = _additive(forbidden, dtype)
    return _Prefill(slice(span.row, span.row + span.count), span.places[first:], mask)


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
