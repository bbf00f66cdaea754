"""Adapters kept as images, for kernels that read them in place: installing takes one copy and a few table entries.

Owns the arenas and the tables of `kernels.adapters.image_tables`; the caller builds a step's kernels from them.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import torch

from headmix_adapters.config import BaseShape
from headmix_adapters.sites import TERMS
from headmix_server.device.adapters.adapter_image import ALIGNMENT, AdapterImage
from headmix_server.device.adapters.image_arena import ImageArena, size_in_units
from headmix_server.kernels.adapters.added_tokens import AddedInputs
from headmix_server.kernels.adapters.image_tables import ABSENT, ImageTables, RowRoute, build_row_route
from headmix_server.kernels.adapters.protocol import StepAdapters
from headmix_server.kernels.adapters.slot_span import SlotSpan

MakeStep = Callable[[ImageTables, RowRoute, AddedInputs | None], StepAdapters]


class ImageStorage:
    """See `device.adapters.slot_storage.SlotStorage`. Above `max_bytes`, free memory is given back to the system."""

    def __init__(self, base: BaseShape, num_slots: int, make_step: MakeStep, max_bytes: int | None = None) -> None:
        self._make_step = make_step
        self._max_bytes = max_bytes
        self._arenas = {dtype: ImageArena(num_slots, dtype, max_bytes) for dtype in (torch.float32, torch.bfloat16)}
        self._runs: dict[int, tuple[ImageArena, int]] = {}  # slot: arena, first number
        self._tables = ImageTables(
            base=base,
            f32=self._arenas[torch.float32].numbers,
            bf16=self._arenas[torch.bfloat16].numbers,
            offsets=torch.full((num_slots, base.num_layers, len(TERMS), 3), ABSENT, dtype=torch.int64),
            ranks=torch.zeros(num_slots, len(TERMS), dtype=torch.int32),
            scales=torch.ones(num_slots, len(TERMS)),
            stored_bf16=torch.zeros(num_slots, dtype=torch.bool),
        )

    def stage(self, image: AdapterImage) -> AdapterImage:
        """See `SlotStorage`: returned unchanged."""
        return image

    @property
    def number_bytes(self) -> int:
        """See `SlotStorage`."""
        return 0

    def size_of(self, image: AdapterImage) -> int:
        """See `SlotStorage`."""
        return size_in_units(image.numbers) * ALIGNMENT * image.numbers.itemsize

    def fits(self, image: AdapterImage, emptied: Collection[int]) -> bool:
        """See `SlotStorage`: several times what may be held is reserved."""
        return True

    @property
    def committed_bytes(self) -> int:
        """See `SlotStorage`."""
        return sum(arena.committed_bytes for arena in self._arenas.values())

    def put(self, slot: int, image: AdapterImage) -> None:
        """See `SlotStorage`."""
        arena = self._arenas[image.numbers.dtype]
        start = arena.put(image.numbers)
        self._runs[slot] = (arena, start)
        if self._max_bytes is not None and self.committed_bytes > self._max_bytes:
            for other in self._arenas.values():
                other.give_back()
        self._tables = replace(
            self._tables, f32=self._arenas[torch.float32].numbers, bf16=self._arenas[torch.bfloat16].numbers
        )
        tables = self._tables
        tables.offsets[slot] = torch.where(image.offsets == ABSENT, ABSENT, image.offsets + start)
        tables.ranks[slot] = image.ranks
        tables.scales[slot] = image.scales
        tables.stored_bf16[slot] = image.numbers.dtype == torch.bfloat16

    def remove(self, slot: int) -> None:
        """See `SlotStorage`."""
        self._tables.offsets[slot] = ABSENT
        self._tables.ranks[slot] = 0
        if slot in self._runs:
            arena, start = self._runs.pop(slot)
            arena.remove(start)

    def step(self, spans: Sequence[SlotSpan], added: AddedInputs | None = None) -> StepAdapters | None:
        """See `SlotStorage`."""
        route = build_row_route(spans)
        return None if route is None else self._make_step(self._tables, route, added)
