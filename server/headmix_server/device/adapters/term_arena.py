"""The memory of one term: the rank rows of every slot's adapter in one growing tensor, unpadded.

A rank row is one rank of all heads: for a head term A [heads, in] and B [heads, out], for a shared term A [in] and
B [out]. Row 0 is zeros and pads segments of smaller rank. Owns only places in memory; the pool knows the slots.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from headmix_adapters.config import BaseShape
from headmix_adapters.sites import Term, symbol_sizes
from headmix_server.device.adapters.run_allocator import RunAllocator
from headmix_server.kernels.adapters.segment_terms import SegmentWeights


class TermArena:
    """One term's tensors for every slot and layer."""

    def __init__(self, term: Term, base: BaseShape, num_slots: int, dtype: torch.dtype) -> None:
        sizes = symbol_sizes(base, rank=1)
        self._per_head = term.part == "head"
        self._A = torch.zeros(1, *_row_shape(term.A, sizes), dtype=dtype)
        self._B = torch.zeros(1, *_row_shape(term.B, sizes), dtype=dtype)
        self._bias: Tensor | None = None
        if term.bias is not None:
            width = prod(sizes[symbol] for symbol in term.bias)
            self._bias = torch.zeros(num_slots, base.num_layers, width, dtype=dtype)
        self._allocator = RunAllocator(reserved=1)
        self._runs: dict[int, tuple[int, int]] = {}  # slot: first row, rows over all its layers
        # [slots, layers, largest rank seen]: rows of each slot, 0 (the zero row) past its rank
        self._index = torch.zeros(num_slots, base.num_layers, 0, dtype=torch.int64)
        self._ranks = torch.zeros(num_slots, dtype=torch.int64)

    def put(self, slot: int, scale: float, layers: Sequence[int], A: Tensor, B: Tensor, bias: Tensor | None) -> None:
        """Store a slot's adapter; the slot must be empty here.

        The tensors are the artifact's, stacked over `layers` ([layers, *shape]); B and bias are not scaled yet.
        """
        rank = A.shape[2 if self._per_head else 1]
        count = rank * len(layers)
        self._widen(rank)
        first = self._take_rows(count)
        self._runs[slot] = (first, count)
        self._ranks[slot] = rank
        rows = slice(first, first + count)
        self._A[rows] = (A.transpose(1, 2) if self._per_head else A).flatten(0, 1)
        # B [layers, heads, out, r] or [layers, out, r] -> [layers * r, heads, out] or [layers * r, out]
        self._B[rows] = B.movedim(-1, 1).flatten(0, 1).to(self._B.dtype) * scale
        chosen = torch.tensor(layers, dtype=torch.int64)
        self._index[slot, chosen, :rank] = torch.arange(first, first + count).view(-1, rank)
        if bias is not None and self._bias is not None:
            self._bias[slot, chosen] = bias.flatten(1).to(self._bias.dtype) * scale

    def _take_rows(self, rows: int) -> int:
        first = self._allocator.allocate(rows)
        if first is None:
            added = max(rows, self._allocator.capacity // 2)
            self._allocator.grow(added)
            self._A = torch.cat([self._A, self._A.new_zeros(added, *self._A.shape[1:])])
            self._B = torch.cat([self._B, self._B.new_zeros(added, *self._B.shape[1:])])
            first = self._allocator.allocate(rows)
        if first is None:
            raise RuntimeError("the arena grew and still has no run of rows")
        return first

    @property
    def committed_bytes(self) -> int:
        """Memory of the rows, held or free, and of the biases."""
        bias = 0 if self._bias is None else self._bias.nbytes
        return self._A.nbytes + self._B.nbytes + bias

    @staticmethod
    def bytes_of(term: Term, base: BaseShape, rank: int, layers: int, dtype: torch.dtype) -> int:
        """Return how many bytes an adapter of this rank takes."""
        sizes = symbol_sizes(base, rank=1)
        rows = rank * sum(prod(_row_shape(part, sizes)) for part in (term.A, term.B))
        bias = 0 if term.bias is None else prod(sizes[symbol] for symbol in term.bias)
        return layers * (rows + bias) * dtype.itemsize

    def compact(self) -> None:
        """Move the rows together and free the unused memory; earlier results of `select` keep their own memory."""
        rows = 1 + sum(count for _, count in self._runs.values())
        if rows == self._allocator.capacity:
            return
        before_a, before_b = self._A, self._B
        self._A, self._B = (old.new_zeros(rows, *old.shape[1:]) for old in (before_a, before_b))
        self._allocator = RunAllocator(reserved=1)
        self._allocator.grow(rows - 1)
        for slot, (first, count) in self._runs.items():
            moved = self._allocator.allocate(count)
            if moved is None:
                raise RuntimeError("rows that were there have no place any more")
            self._A[moved : moved + count] = before_a[first : first + count]
            self._B[moved : moved + count] = before_b[first : first + count]
            self._index[slot][self._index[slot] > 0] += moved - first
            self._runs[slot] = (moved, count)

    def _widen(self, rank: int) -> None:
        missing = rank - self._index.shape[2]
        if missing > 0:
            slots, layers, _ = self._index.shape
            self._index = torch.cat([self._index, self._index.new_zeros(slots, layers, missing)], dim=2)

    def remove(self, slot: int) -> None:
        """Empty a slot; does nothing if it is empty here."""
        if slot in self._runs:
            self._allocator.release(*self._runs.pop(slot))
            self._index[slot] = 0
            self._ranks[slot] = 0
            if self._bias is not None:
                self._bias[slot] = 0

    def select(self, slots: Tensor) -> "StepTerm | None":
        """Return the term's weights for a step's segments [segments], or None if none of them has the term."""
        rank = int(self._ranks.index_select(0, slots).max())
        if rank == 0:
            return None
        index = self._index.index_select(0, slots)[:, :, :rank]  # [segments, layers, rank]
        bias = None if self._bias is None else self._bias.index_select(0, slots)
        return StepTerm(self._A, self._B, index, bias)


class StepTerm:
    """A term's weights for one step; see `kernels.adapters.batched.TermWeights`."""

    def __init__(self, A: Tensor, B: Tensor, index: Tensor, bias: Tensor | None) -> None:
        self._A, self._B, self._index, self._bias = A, B, index, bias
        self._layers = (index > 0).any(dim=2).any(dim=0).tolist()  # layers that some segment adapts

    def for_layer(self, layer: int) -> SegmentWeights | None:
        """Gather a layer's rows by segment."""
        if not self._layers[layer]:
            return None
        rows = self._index[:, layer]  # [segments, rank]
        flat = rows.flatten()
        return SegmentWeights(
            A=self._A.index_select(0, flat).view(*rows.shape, *self._A.shape[1:]),
            B=self._B.index_select(0, flat).view(*rows.shape, *self._B.shape[1:]),
            bias=None if self._bias is None else self._bias[:, layer],
        )


def _row_shape(symbols: tuple[str, ...], sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(sizes[symbol] for symbol in symbols if symbol != "r")
