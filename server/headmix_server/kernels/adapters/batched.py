"""A step's adapters as batched torch products over segments of rows: runs on every device.

Owns the order and routing of the terms. The faster kernels are tested against this implementation, which is itself
tested against the method's reference.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from headmix_server.kernels.adapters import segment_terms
from headmix_server.kernels.adapters.added_tokens import AddedInputs
from headmix_server.kernels.adapters.segment_terms import SegmentWeights
from headmix_server.kernels.adapters.segments import Route

TermKey = tuple[str, str, str]
"""Site, part and input, as in the table of shapes."""


class TermWeights(Protocol):
    """The source of a term's weights for a step: the device's arenas."""

    def for_layer(self, layer: int) -> SegmentWeights | None:
        """Return the weights of a layer by segment, or None if no segment's adapter adapts it."""
        ...


_FORMS: Mapping[TermKey, Callable[[Tensor, SegmentWeights], Tensor]] = {
    ("q", "head", "x"): segment_terms.head_from_x,
    ("v", "head", "k"): segment_terms.v_head_from_key,
    ("v", "head", "x"): segment_terms.head_from_x,
    ("o", "head", "a"): segment_terms.o_head,
}
"""How the head parts are computed; every other term is a shared part."""


class BatchedAdapters:
    """See `kernels.adapters.protocol.StepAdapters`.

    `widths` are H*P and G*P; `terms` maps the active terms to their weights. `added` is None if no row's token was
    added by an adapter.
    """

    def __init__(
        self,
        route: Route,
        widths: tuple[int, int],
        terms: Mapping[TermKey, TermWeights],
        added: AddedInputs | None = None,
    ) -> None:
        queries, keys = widths
        self._route = route
        self._widths = [queries, keys, keys]
        self._terms = terms
        self._added = added

    def replace_embeddings(self, embeddings: Tensor) -> None:
        """See `StepAdapters`."""
        if self._added is not None:
            self._added.put(embeddings)

    def add_qkv(self, layer: int, x: Tensor, qkv: Tensor) -> None:
        """See `StepAdapters`."""
        q, k, v = torch.split(qkv, self._widths, dim=-1)
        self._add(layer, ("v", "head", "k"), k, v)  # before the key's own part is added
        from_x = {("q", "head", "x"): q, ("q", "shared", "x"): q, ("k", "shared", "x"): k}
        self._add_all(layer, x, from_x | {("v", "head", "x"): v, ("v", "shared", "x"): v})

    def add_o(self, layer: int, attention: Tensor, out: Tensor) -> None:
        """See `StepAdapters`."""
        self._add_all(layer, attention, {("o", "head", "a"): out, ("o", "shared", "a"): out})

    def add_gate_up(self, layer: int, x: Tensor, gate_up: Tensor) -> None:
        """See `StepAdapters`."""
        self._add(layer, ("gate_up", "shared", "m"), x, gate_up)

    def add_down(self, layer: int, inner: Tensor, out: Tensor) -> None:
        """See `StepAdapters`."""
        self._add(layer, ("down", "shared", "i"), inner, out)

    def _add(self, layer: int, term: TermKey, inputs: Tensor, out: Tensor) -> None:
        self._add_all(layer, inputs, {term: out})

    def _add_all(self, layer: int, inputs: Tensor, outs: Mapping[TermKey, Tensor]) -> None:
        """Add the terms that read the same inputs [tokens, in], gathered once, each to its own rows in place."""
        found = {key: weights for key in outs if (weights := self._weights(layer, key)) is not None}
        if not found:
            return
        segments = self._route.take(inputs)
        for key, weights in found.items():
            self._route.add(_FORMS.get(key, segment_terms.shared)(segments, weights), outs[key])

    def _weights(self, layer: int, key: TermKey) -> SegmentWeights | None:
        term = self._terms.get(key)
        return None if term is None else term.for_layer(layer)
