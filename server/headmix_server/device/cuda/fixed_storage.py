"""Adapters kept as images in memory that is allocated once and never moves, as captured CUDA graphs require.

Owns the arena, the tables of `kernels.adapters.image_tables` at fixed addresses, and the copies in progress. The caller
builds a step's kernels from them. Images have the base's dtype.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from headmix_adapters.config import BaseShape
from headmix_adapters.sites import TERMS
from headmix_server.core.runner import AdapterLoadError
from headmix_server.device.adapters.adapter_image import ALIGNMENT, AdapterImage
from headmix_server.device.adapters.run_allocator import RunAllocator
from headmix_server.device.cuda.transfer import Ticket, Transfer
from headmix_server.kernels.adapters.added_tokens import AddedInputs
from headmix_server.kernels.adapters.image_tables import ABSENT, ImageTables
from headmix_server.kernels.adapters.passes import FROM_KEY, AdaptersInPasses, in_passes, tables_of, uses_of
from headmix_server.kernels.adapters.protocol import StepAdapters
from headmix_server.kernels.adapters.row_tiles import RowTiles, tile_rows
from headmix_server.kernels.adapters.slot_span import SlotSpan
from headmix_server.kernels.triton.needs import Launches, z_width

MakeTiledStep = Callable[[ImageTables, RowTiles, Tensor, Launches, AddedInputs | None], StepAdapters]
"""Tables, tiles, scratch z [routed rows, width] float32, which kernels to launch, and rows of added tokens."""

DECODE_HEIGHT = 16
"""Rows per tile in steps of mostly single rows: the fewest that fill a tensor core's tile."""

PREFILL_HEIGHT = 64
"""Rows per tile if slots have at least that many on average: each weight is read once for all of them."""

_QKV = Launches(qkv=True, o=False, gate_up=False, down=False)


@dataclass(frozen=True, slots=True)
class _Held:
    start: int  # first unit
    units: int
    launches: Launches
    z_width: int
    reads_key: bool
    ticket: Ticket


class FixedStorage:
    """See `device.adapters.slot_storage.SlotStorage`.

    `capacity` is in numbers. `longest_row` is the widest row of z that captured steps have room for; wider adapters are
    refused, because which steps run is decided before it is known which adapters will be in them.
    """

    def __init__(
        self,
        base: BaseShape,
        num_slots: int,
        capacity: int,
        longest_row: int,
        dtype: torch.dtype,
        device: torch.device,
        transfer: Transfer,
        make_step: MakeTiledStep,
    ) -> None:
        self.num_slots = num_slots
        self.longest_row = longest_row
        self._device = device
        self._transfer = transfer
        self._make_step = make_step
        self._allocator = RunAllocator()  # in units of ALIGNMENT numbers
        self._allocator.grow(capacity // ALIGNMENT)
        self._held: dict[int, _Held] = {}
        arena = torch.empty(capacity, dtype=dtype, device=device)
        none = torch.empty(0, dtype=torch.float32 if dtype == torch.bfloat16 else torch.bfloat16, device=device)
        slots_terms = (num_slots, len(TERMS))
        self.tables = ImageTables(
            base=base,
            f32=none if dtype == torch.bfloat16 else arena,
            bf16=arena if dtype == torch.bfloat16 else none,
            offsets=torch.full((num_slots, base.num_layers, len(TERMS), 3), ABSENT, dtype=torch.int64, device=device),
            ranks=torch.zeros(slots_terms, dtype=torch.int32, device=device),
            scales=torch.ones(slots_terms, dtype=torch.float32, device=device),
            stored_bf16=torch.full((num_slots,), dtype == torch.bfloat16, device=device),
        )
        self._arena = arena

    def stage(self, image: AdapterImage) -> AdapterImage:
        """See `SlotStorage`."""
        return replace(image, numbers=self._transfer.stage(image.numbers.to(self._arena.dtype)))

    @property
    def number_bytes(self) -> int:
        """See `SlotStorage`."""
        return self._arena.itemsize

    def size_of(self, image: AdapterImage) -> int:
        """See `SlotStorage`."""
        return _units(image) * ALIGNMENT * self._arena.itemsize

    def fits(self, image: AdapterImage, emptied: Collection[int]) -> bool:
        """See `SlotStorage`: one free run must be long enough, no matter how many bytes are free in total."""
        released = [(held.start, held.units) for slot, held in self._held.items() if slot in emptied]
        return self._allocator.has_run(_units(image), released)

    @property
    def committed_bytes(self) -> int:
        """See `SlotStorage`: the part in use of the memory allocated at startup."""
        return (self._allocator.capacity - self._allocator.num_free) * ALIGNMENT * self._arena.itemsize

    def put(self, slot: int, image: AdapterImage) -> None:
        """See `SlotStorage`.

        Raises:
            AdapterLoadError: the memory for adapters has no run for it, or its ranks are larger than was planned for.
        """
        ranks = {place.key: place.config.rank for place in image.places}
        width = z_width(self.tables.base, ranks)
        if width > self.longest_row:
            raise AdapterLoadError(
                f"its ranks need {width} numbers a row, and the device has room for {self.longest_row}"
            )
        units = _units(image)
        first = self._allocator.allocate(units)
        if first is None:
            free = self._allocator.num_free * ALIGNMENT * self._arena.itemsize // 2**20
            raise AdapterLoadError(
                f"the device's memory for adapters ({free} MiB free) has no room for its "
                f"{image.numbers.nbytes / 2**20:.1f} MiB; see --adapter-memory-mib"
            )
        start = first * ALIGNMENT
        numbers = image.numbers
        offsets = torch.where(image.offsets == ABSENT, ABSENT, image.offsets + start)

        def copies() -> None:
            self._arena[start : start + numbers.numel()].copy_(numbers, non_blocking=True)
            self.tables.offsets[slot].copy_(offsets, non_blocking=True)
            self.tables.ranks[slot].copy_(image.ranks, non_blocking=True)
            self.tables.scales[slot].copy_(image.scales, non_blocking=True)

        try:
            ticket = self._transfer.start(copies)
        except BaseException:
            self._allocator.release(first, units)
            raise
        self._held[slot] = _Held(first, units, Launches.of(list(ranks)), width, FROM_KEY in ranks, ticket)

    def remove(self, slot: int) -> None:
        """See `SlotStorage`."""
        held = self._held.pop(slot, None)
        if held is not None:
            self._transfer.wait([held.ticket])  # a copy still in progress must not write to what is cleared here
            self._allocator.release(held.start, held.units)
        self.tables.offsets[slot] = ABSENT
        self.tables.ranks[slot] = 0

    def step(self, spans: Sequence[SlotSpan], added: AddedInputs | None = None) -> StepAdapters | None:
        """See `SlotStorage`."""
        if not spans:
            return None
        if not all(span.is_plain for span in spans):
            return self._step_in_passes(spans, added)
        slots = {span.slot for span in spans}
        self.await_slots(slots)
        return self._tiled_step(self.tables, spans, self._width(slots), self.launches(slots), added)

    def _step_in_passes(self, spans: Sequence[SlotSpan], added: AddedInputs | None) -> StepAdapters:
        """Return a step of rows with several adapters or scaled ones; see `kernels.adapters.passes`."""
        uses = uses_of(spans)
        slots = {use.slot for use in uses}
        self.await_slots(slots)
        tables, passes = tables_of(self.tables, uses), in_passes(spans, uses)
        several = len(passes) > 1
        width, launches = self._width(slots), self.launches(slots)
        from_key = [
            self._tiled_step(tables.from_key, rows, width, _QKV, None)
            for rows in passes
            if several and self._read_key(uses[span.slot].slot for span in rows)
        ]
        rest = tables.rest if several else tables.whole
        return AdaptersInPasses(
            from_key,
            [
                self._tiled_step(rest, rows, width, launches, added if number == 0 else None)
                for number, rows in enumerate(passes)
            ],
        )

    def _width(self, slots: Collection[int]) -> int:
        """Return the width of a row of z that the adapters in these slots need."""
        return max((self._held[slot].z_width for slot in slots if slot in self._held), default=1) or 1

    def _read_key(self, slots: Iterable[int]) -> bool:
        """Return whether an adapter in one of these slots has a term that reads the base's key."""
        return any(self._held[slot].reads_key for slot in slots if slot in self._held)

    def blank_step(self, rows: int, height: int) -> StepAdapters:
        """Return a step of every kernel on `rows` rows of slot 0, for a device that has no adapters yet."""
        spans = [SlotSpan(0, 0, rows)]
        return self._tiled_step(self.tables, spans, self.longest_row, Launches.every(), None, height)

    def _tiled_step(
        self,
        tables: ImageTables,
        spans: Sequence[SlotSpan],
        width: int,
        launches: Launches,
        added: AddedInputs | None,
        height: int | None = None,
    ) -> StepAdapters:
        numbers = tile_rows(spans, height or _height(spans))
        tiles = numbers.on_device(torch.tensor(numbers.flat(), dtype=torch.int32, device=self._device))
        z = torch.empty((len(numbers.rows), width), dtype=torch.float32, device=self._device)
        return self._make_step(tables, tiles, z, launches, added)

    def fixed_step(self, tiles: RowTiles, z: Tensor, launches: Launches) -> StepAdapters:
        """Return what the adapters add in a step whose tiles and scratch stay at the same address and are rewritten."""
        return self._make_step(self.tables, tiles, z, launches, None)

    def launches(self, slots: Collection[int]) -> Launches:
        """Return which kernels the adapters in these slots need."""
        needed = Launches.of([])
        for slot in slots:
            if slot in self._held:
                needed |= self._held[slot].launches
        return needed

    def await_slots(self, slots: Collection[int]) -> None:
        """Make all later computation wait for the copies into these slots."""
        self._transfer.wait([self._held[slot].ticket for slot in sorted(slots) if slot in self._held])


def _height(spans: Sequence[SlotSpan]) -> int:
    rows = sum(span.num_rows for span in spans)
    return PREFILL_HEIGHT if rows >= PREFILL_HEIGHT * len({span.slot for span in spans}) else DECODE_HEIGHT


def _units(image: AdapterImage) -> int:
    return max(1, -(-image.numbers.numel() // ALIGNMENT))
