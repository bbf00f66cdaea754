"""The device's adapters: which slot holds whose tensors, and the weights a step's rows need.

Owns the arenas, the classification heads and each slot's generation. A lease of another generation finds nothing here,
so a row can fail but never run with a stranger's tensors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headmix_adapters.config import AdapterConfig, BaseShape
from headmix_adapters.sites import TERMS, TermConfig, iter_terms
from headmix_server.core.runner import Lease
from headmix_server.device.adapter_files import LoadedAdapter
from headmix_server.device.arena import LayerTensors, TermArena
from headmix_server.kernels.adapters import StepAdapters
from headmix_server.kernels.added_tokens import AddedInputs
from headmix_server.kernels.batched_adapters import BatchedAdapters
from headmix_server.kernels.route import build_route


@dataclass(frozen=True, slots=True)
class Occupant:
    """What a slot holds besides arena rows. `head` are the classifier's tensors, empty for a generation adapter.

    `added` [n, D] are the rows of the tokens it adds to the vocabulary, None where it adds none.
    """

    generation: int
    digest: str
    config: AdapterConfig
    head: dict[str, Tensor]
    added: Tensor | None = None


class AdapterPool:
    """Every slot's adapter."""

    def __init__(self, base: BaseShape, num_slots: int, dtype: torch.dtype) -> None:
        self._base = base
        self._num_slots = num_slots
        self._dtype = dtype
        self._arenas: dict[tuple[str, str, str], TermArena] = {}
        self._occupants: dict[int, Occupant] = {}

    def install(self, slot: int, generation: int, adapter: LoadedAdapter) -> None:
        """Copy an adapter's tensors into a slot, which must be empty; where that fails it is empty again."""
        if slot in self._occupants:
            raise RuntimeError(f"slot {slot} is not empty")
        try:
            for term in iter_terms(adapter.config.sites):
                self._arena(term).put(slot, term.scale, _layer_tensors(term, adapter))
        except BaseException:
            self._remove(slot)
            raise
        head = {name: t.to(self._dtype) for name, t in adapter.tensors.items() if name.startswith("classifier.")}
        rows = adapter.tensors.get("added_tokens.embedding")
        added = None if rows is None else rows.to(self._dtype)
        self._occupants[slot] = Occupant(generation, adapter.digest, adapter.config, head, added)

    def _arena(self, term: TermConfig) -> TermArena:
        key = (term.term.site, term.term.part, term.term.input)
        if key not in self._arenas:
            self._arenas[key] = TermArena(TERMS[key], self._base, self._num_slots, self._dtype)
        return self._arenas[key]

    def clear(self, slot: int) -> None:
        """Empty a slot."""
        del self._occupants[slot]
        self._remove(slot)

    def _remove(self, slot: int) -> None:
        for arena in self._arenas.values():
            arena.remove(slot)

    def occupant(self, lease: Lease) -> Occupant | None:
        """Return what the lease holds, or None where the slot's content is not what was leased."""
        occupant = self._occupants.get(lease.slot)
        if occupant is None or occupant.generation != lease.generation or occupant.digest != lease.digest:
            return None
        return occupant

    def route(self, spans: Sequence[tuple[int, int, int]], added: AddedInputs | None = None) -> StepAdapters | None:
        """Return what the adapters add in a step; `spans` are (slot, first row, rows). None: the base alone.

        `added` are the rows of the batch whose token one of these adapters added.
        """
        route = build_route(spans)
        if route is None:
            return None
        selected = {key: arena.select(route.slots) for key, arena in self._arenas.items()}
        widths = (self._base.num_heads * self._base.head_dim, self._base.num_kv_heads * self._base.head_dim)
        return BatchedAdapters(route, widths, {key: term for key, term in selected.items() if term is not None}, added)


def _layer_tensors(term: TermConfig, adapter: LoadedAdapter) -> dict[int, LayerTensors]:
    return {
        layer: LayerTensors(
            A=adapter.tensors[f"layers.{layer}.{term.prefix}.A"],
            B=adapter.tensors[f"layers.{layer}.{term.prefix}.B"],
            bias=adapter.tensors[f"layers.{layer}.{term.prefix}.bias"] if term.has_bias else None,
        )
        for layer in adapter.layers
    }
