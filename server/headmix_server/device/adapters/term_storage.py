"""Adapters kept term by term in arenas of rank rows, unpadded, and computed with torch's own matmuls.

Runs on every machine, and is the reference for the storages that our own kernels read.
"""

from collections.abc import Collection, Sequence

import torch

from headmix_adapters.config import BaseShape
from headmix_adapters.sites import TERMS
from headmix_server.device.adapters.adapter_image import AdapterImage
from headmix_server.device.adapters.term_arena import TermArena
from headmix_server.kernels.adapters.added_tokens import AddedInputs
from headmix_server.kernels.adapters.batched import BatchedAdapters, TermKey
from headmix_server.kernels.adapters.protocol import StepAdapters
from headmix_server.kernels.adapters.segments import build_route
from headmix_server.kernels.adapters.slot_span import SlotSpan


class TermStorage:
    """See `device.adapters.slot_storage.SlotStorage`. Above `max_bytes`, arenas free their unused rows."""

    def __init__(self, base: BaseShape, num_slots: int, dtype: torch.dtype, max_bytes: int | None = None) -> None:
        self._base = base
        self._max_bytes = max_bytes
        self._num_slots = num_slots
        self._dtype = dtype
        self._arenas: dict[TermKey, TermArena] = {}

    def stage(self, image: AdapterImage) -> AdapterImage:
        """See `SlotStorage`: returned unchanged."""
        return image

    @property
    def number_bytes(self) -> int:
        """See `SlotStorage`."""
        return self._dtype.itemsize

    def size_of(self, image: AdapterImage) -> int:
        """See `SlotStorage`."""
        return sum(
            TermArena.bytes_of(TERMS[place.key], self._base, place.config.rank, len(image.layers), self._dtype)
            for place in image.places
        )

    def fits(self, image: AdapterImage, emptied: Collection[int]) -> bool:
        """See `SlotStorage`: arenas grow."""
        return True

    @property
    def committed_bytes(self) -> int:
        """See `SlotStorage`."""
        return sum(arena.committed_bytes for arena in self._arenas.values())

    def put(self, slot: int, image: AdapterImage) -> None:
        """See `SlotStorage`."""
        for place in image.places:
            arena = self._arena(place.key)
            arena.put(slot, place.config.scale, image.layers, image.A(place), image.B(place), image.bias(place))
        if self._max_bytes is not None and self.committed_bytes > self._max_bytes:
            for arena in self._arenas.values():
                arena.compact()

    def _arena(self, key: TermKey) -> TermArena:
        if key not in self._arenas:
            self._arenas[key] = TermArena(TERMS[key], self._base, self._num_slots, self._dtype)
        return self._arenas[key]

    def remove(self, slot: int) -> None:
        """See `SlotStorage`."""
        for arena in self._arenas.values():
            arena.remove(slot)

    def step(self, spans: Sequence[SlotSpan], added: AddedInputs | None = None) -> StepAdapters | None:
        """See `SlotStorage`."""
        route = build_route(spans)
        if route is None:
            return None
        selected = {key: arena.select(route.slots) for key, arena in self._arenas.items()}
        widths = (self._base.num_heads * self._base.head_dim, self._base.num_kv_heads * self._base.head_dim)
        return BatchedAdapters(route, widths, {key: term for key, term in selected.items() if term is not None}, added)
