"""Attention of a ragged batch by torch's scaled-dot-product kernels, over a paged cache or within whole texts.

Defines the attention of a step (`StepAttention`) and the implementation that runs everywhere and that others are tested
against. With a cache, sequences with a single row share one padded call, and every longer chunk gets its own.
Bidirectional attention needs no cache: a text's rows see each other and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from headmix_server.kernels.attention.step_layout import BlockTable, StepLayout


class StepAttention(Protocol):
    """The attention of one step, the same object for every layer."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None) -> Tensor:
        """Attend with q [tokens, H, P] to the rows' own k and v [tokens, G, P] and to earlier ones; returns q's shape.

        `window` None attends to everything, n to the last n positions, including a token's own. q, k and v may be views
        of one tensor; none of them is changed or kept.

        What a row must not see has no part in its result, not even as a factor of 0: other sequences' values may be NaN
        or infinite. A row with such values in its own q, k or v has NaN or infinities in its result.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Decode:
    rows: Tensor  # [n] batch rows
    places: Tensor  # [n, longest context]; padding repeats the row's own place
    mask: Tensor | None  # [n, 1, 1, longest context] added to the scores; None where all contexts are equally long


@dataclass(frozen=True, slots=True)
class _Chunk:
    rows: slice
    places: Tensor | None  # [context]; None: the context is the chunk itself
    mask: Tensor | None  # [count, context] added to the scores; None: causal from position 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """What attention needs to know about a step, the same for every layer with the same window."""

    decode: _Decode | None
    chunks: tuple[_Chunk, ...]


class PagedAttention:
    """A causal step over `caches`, every layer's keys and values [places, G, P], of any float dtype on any device."""

    def __init__(self, caches: Sequence[tuple[Tensor, Tensor]], layout: StepLayout, table: BlockTable) -> None:
        self._caches = caches
        device = caches[0][0].device
        bounds, starts = pairwise(layout.rows.tolist()), layout.starts.tolist()
        self._spans = [
            _Span(row, end - row, start, table.places(i, start + end - row).to(device))
            for i, ((row, end), start) in enumerate(zip(bounds, starts, strict=True))
        ]
        self._write_places = torch.cat([span.places[span.start :] for span in self._spans])
        self._plans: dict[int | None, _Plan] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None) -> Tensor:
        """See `StepAttention`."""
        keys, values = self._caches[layer]
        keys.index_copy_(0, self._write_places, k)
        values.index_copy_(0, self._write_places, v)
        if window not in self._plans:
            self._plans[window] = _plan(self._spans, q.dtype, window)
        plan = self._plans[window]
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        if plan.decode is not None:
            out.index_copy_(0, plan.decode.rows, _attend_decode(q, keys, values, plan.decode, scale))
        for chunk in plan.chunks:
            own = (k[chunk.rows], v[chunk.rows])
            key, value = own if chunk.places is None else (keys[chunk.places], values[chunk.places])
            out[chunk.rows] = _attend_rows(q[chunk.rows], key, value, chunk.mask, scale, causal=chunk.mask is None)
        return spoil_broken_rows(out, q, k)


class WholeAttention:
    """A bidirectional step over whole texts, the sequences of the layout."""

    def __init__(self, layout: StepLayout) -> None:
        rows = layout.rows.tolist()
        self._texts = [slice(first, end) for first, end in pairwise(rows)]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None) -> Tensor:
        """See `StepAttention`; windows are not supported."""
        refuse_window(layer, window)
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        for rows in self._texts:
            out[rows] = _attend_rows(q[rows], k[rows], v[rows], None, scale, causal=False)
        return spoil_broken_rows(out, q, k)


def spoil_broken_rows(out: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """Set results [rows, H, P] to NaN, in place, where the row's own q or k is not finite; returns `out`.

    Attention kernels may treat a row of NaN scores as one that sees nothing and return 0. Values need no such check: a
    row's own value has a weight in its sum.
    """
    out.add_(q, alpha=0)
    torch.unflatten(out, 1, (k.shape[1], -1)).add_(k.unsqueeze(2), alpha=0)
    return out


def refuse_window(layer: int, window: int | None) -> None:
    """Check that a bidirectional layer has no window.

    Raises:
        ValueError: it has one.
    """
    if window is not None:
        raise ValueError(f"layer {layer}: no window in bidirectional attention")


@dataclass(frozen=True, slots=True)
class _Span:
    row: int
    count: int
    start: int
    places: Tensor  # [start + count] the cache place of every position

    @property
    def end(self) -> int:
        return self.start + self.count


def _plan(spans: Sequence[_Span], dtype: torch.dtype, window: int | None) -> _Plan:
    decodes = [span for span in spans if span.count == 1]
    return _Plan(
        decode=_plan_decode(decodes, dtype, window) if decodes else None,
        chunks=tuple(_plan_chunk(span, dtype, window) for span in spans if span.count > 1),
    )


def _first_seen(span: _Span, window: int | None) -> int:
    """Return the first position that any of the span's rows attends to."""
    return 0 if window is None else max(0, span.start + 1 - window)


def _plan_decode(spans: Sequence[_Span], dtype: torch.dtype, window: int | None) -> _Decode:
    contexts = [span.places[_first_seen(span, window) :] for span in spans]
    places = torch.nn.utils.rnn.pad_sequence(contexts, batch_first=True)
    lengths, device = [context.numel() for context in contexts], places.device
    mask = None
    if min(lengths) != max(lengths):
        ends = torch.tensor(lengths, device=device)[:, None]
        padding = torch.arange(places.shape[1], device=device) >= ends
        # padding is masked but still multiplied: repeat the sequence's own place, never read place 0
        places = torch.where(padding, places.gather(1, ends - 1), places)
        mask = _additive(padding, dtype)[:, None, None, :]
    return _Decode(torch.tensor([span.row for span in spans], device=device), places, mask)


def _plan_chunk(span: _Span, dtype: torch.dtype, window: int | None) -> _Chunk:
    mask, first = None, _first_seen(span, window)
    if span.start > 0 or (window is not None and window < span.end):
        rows = torch.arange(span.start, span.end, device=span.places.device)[:, None]
        keys = torch.arange(first, span.end, device=span.places.device)
        forbidden = keys > rows
        if window is not None:
            forbidden |= keys <= rows - window
        mask = _additive(forbidden, dtype)
    return _Chunk(slice(span.row, span.row + span.count), span.places[first:] if span.start else None, mask)


def _additive(forbidden: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(forbidden.shape, dtype=dtype, device=forbidden.device).masked_fill_(forbidden, float("-inf"))


def _attend_decode(q: Tensor, keys: Tensor, values: Tensor, decode: _Decode, scale: float) -> Tensor:
    """Attend with single rows, treating the query heads of one kv head as its rows, so that no key is repeated."""
    n, context = decode.places.shape
    kv_heads, size = keys.shape[1:]
    query = q.index_select(0, decode.rows).view(n, kv_heads, -1, size)  # [n, G, H / G, P]
    flat = decode.places.flatten()
    key = keys.index_select(0, flat).view(n, context, kv_heads, size).transpose(1, 2)  # [n, G, context, P]
    value = values.index_select(0, flat).view(n, context, kv_heads, size).transpose(1, 2)
    return scaled_dot_product_attention(query, key, value, attn_mask=decode.mask, scale=scale).flatten(1, 2)


def _attend_rows(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, *, causal: bool) -> Tensor:
    """Attend with rows [count, H, P] to [context, G, P]."""
    query, key, value = (states.transpose(0, 1).unsqueeze(0) for states in (q, k, v))  # [1, heads, rows, P]
    out = scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return out.squeeze(0).transpose(0, 1)
