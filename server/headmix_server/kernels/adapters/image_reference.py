"""A step's adapters computed from their images, one segment and one term at a time: the fast kernels' reference.

Written for readability. Computes in float32, whatever the dtype of the images and the batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch
from torch import Tensor

from headmix_adapters.sites import TERMS, Shape, symbol_sizes
from headmix_server.kernels.adapters.added_tokens import AddedInputs
from headmix_server.kernels.adapters.image_tables import ABSENT, TERM_INDEX, ImageTables, RowRoute

TermKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class TermTensors:
    """One term of one slot and layer, in float32; a shared term is stored as a head term with a single head."""

    A: Tensor  # [heads, r, in]
    B: Tensor  # [heads, r, out]
    bias: Tensor | None  # [out of the site]
    scale: float


def read_term(tables: ImageTables, slot: int, layer: int, key: TermKey) -> TermTensors | None:
    """Read a term's tensors from a slot's image; None if the slot's adapter has no such term in the layer."""
    index = TERM_INDEX[key]
    at_A, at_B, at_bias = (int(offset) for offset in tables.offsets[slot, layer, index])
    if at_A == ABSENT:
        return None
    term, arena = TERMS[key], tables.bf16 if tables.stored_bf16[slot] else tables.f32
    sizes = symbol_sizes(tables.base, int(tables.ranks[slot, index]))

    def read(offset: int, shape: Shape) -> Tensor:
        return arena[offset : offset + prod(shape)].view(shape).float()

    A = read(at_A, tuple(sizes[symbol] for symbol in term.A))
    # B is [heads, out, r] or [out, r] in the table of shapes; the image has the last two swapped
    B = read(at_B, tuple(sizes[symbol] for symbol in (*term.B[:-2], term.B[-1], term.B[-2])))
    if term.part == "shared":
        A, B = A.unsqueeze(0), B.unsqueeze(0)
    bias = None
    if at_bias != ABSENT and term.bias is not None:
        bias = read(at_bias, (prod(sizes[symbol] for symbol in term.bias),))
    return TermTensors(A, B, bias, float(tables.scales[slot, index]))


def term_delta(key: TermKey, inputs: Tensor, term: TermTensors) -> Tensor:
    """Return what a term adds to its site: [rows, in] -> [rows, out], heads flattened."""
    heads, _, width = term.A.shape
    if key[1] == "head" and key[2] in ("k", "a"):
        per_head = inputs.float().view(-1, heads, width)  # [rows, heads, P]
    else:
        per_head = inputs.float().unsqueeze(1).expand(-1, heads, -1)  # [rows, heads, in]
    z = torch.einsum("nhi,hri->nhr", per_head, term.A) * term.scale
    if key[0] == "o":
        delta = torch.einsum("nhr,hro->no", z, term.B)  # sums the heads' parts in the model's hidden space
    else:
        delta = torch.einsum("nhr,hro->nho", z, term.B).flatten(1)
    return delta if term.bias is None else delta + term.scale * term.bias


class ReferenceAdapters:
    """See `kernels.adapters.protocol.StepAdapters`. `added` is None if no row's token was added by an adapter."""

    def __init__(self, tables: ImageTables, route: RowRoute, added: AddedInputs | None = None) -> None:
        self._tables = tables
        self._route = route
        self._added = added

    def replace_embeddings(self, embeddings: Tensor) -> None:
        """See `StepAdapters`."""
        if self._added is not None:
            self._added.put(embeddings)

    def add_qkv(self, layer: int, x: Tensor, qkv: Tensor) -> None:
        """See `StepAdapters`."""
        base = self._tables.base
        queries, keys = base.num_heads * base.head_dim, base.num_kv_heads * base.head_dim
        q, k, v = torch.split(qkv, [queries, keys, keys], dim=-1)
        self._add(layer, ("v", "head", "k"), k, v)  # before the key's own part is added
        self._add(layer, ("q", "head", "x"), x, q)
        self._add(layer, ("q", "shared", "x"), x, q)
        self._add(layer, ("k", "shared", "x"), x, k)
        self._add(layer, ("v", "head", "x"), x, v)
        self._add(layer, ("v", "shared", "x"), x, v)

    def add_o(self, layer: int, attention: Tensor, out: Tensor) -> None:
        """See `StepAdapters`."""
        self._add(layer, ("o", "head", "a"), attention, out)
        self._add(layer, ("o", "shared", "a"), attention, out)

    def add_gate_up(self, layer: int, x: Tensor, gate_up: Tensor) -> None:
        """See `StepAdapters`."""
        self._add(layer, ("gate_up", "shared", "m"), x, gate_up)

    def add_down(self, layer: int, inner: Tensor, out: Tensor) -> None:
        """See `StepAdapters`."""
        self._add(layer, ("down", "shared", "i"), inner, out)

    def _add(self, layer: int, key: TermKey, inputs: Tensor, out: Tensor) -> None:
        for slot, scale, rows in self._uses():
            term = read_term(self._tables, slot, layer, key)
            if term is not None:
                delta = term_delta(key, inputs[rows], term) * scale
                out.index_add_(0, rows, delta.to(out.dtype))

    def _uses(self) -> Iterator[tuple[int, float, Tensor]]:
        """Yield each slot of each segment, its scale, and the segment's rows."""
        route = self._route
        slots, scales = route.slots.tolist(), route.scales.tolist()
        starts, slot_starts = route.segment_starts.tolist(), route.slot_starts.tolist()
        for segment, (first, last) in enumerate(pairwise(slot_starts)):
            rows = route.rows[starts[segment] : starts[segment + 1]].long()
            for use in range(first, last):
                yield slots[use], scales[use], rows
