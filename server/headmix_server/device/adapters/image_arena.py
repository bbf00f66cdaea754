"""The adapter images of one dtype in one flat tensor in the CPU's memory, each in a contiguous run.

Owns the memory, the assignment of its runs, and the count of what is taken; the images define what the numbers mean.
"""

import torch
from torch import Tensor

from headmix_server.device.adapters.adapter_image import ALIGNMENT
from headmix_server.device.adapters.reserved_memory import ReservedMemory, reserve
from headmix_server.device.adapters.run_allocator import RunAllocator

RESERVE = 4
"""Ratio of reserved memory to memory that may be held, so that every run finds a place; unused memory costs nothing."""

GRAIN = 2 * 1024 * 1024
"""Granularity, in bytes, at which memory counts as taken: a huge page."""


class ImageArena:
    """An arena that grows on demand. `numbers` is a different tensor after growing; the runs keep their places in it.

    The first image reserves room for several times `max_bytes`, so nothing ever moves. If the system does not have that
    much address space, it reserves room for `num_slots` of several times its own size, and later growth doubles that by
    copying.
    """

    def __init__(self, num_slots: int, dtype: torch.dtype, max_bytes: int | None = None) -> None:
        self._memory = ReservedMemory(torch.empty(0, dtype=dtype))
        self._dtype = dtype
        self._num_slots = num_slots
        self._max_bytes = max_bytes
        self._allocator = RunAllocator()  # in units of ALIGNMENT numbers
        self._held: dict[int, int] = {}  # first unit: units
        self._taken: set[int] = set()  # grains that have been written and not given back

    @property
    def numbers(self) -> Tensor:
        """All numbers, [capacity]."""
        return self._memory.numbers

    def put(self, image: Tensor) -> int:
        """Copy an image [n] into a run of its own; returns the index of the run's first number.

        Raises:
            OSError, RuntimeError: there is no memory for it; nothing is held.
        """
        units = size_in_units(image)
        first = self._allocator.allocate(units)
        if first is None:
            self._grow(units)
            first = self._allocator.allocate(units)
        if first is None:
            raise RuntimeError("the arena grew and still has no run that is long enough")
        self._held[first] = units
        start = first * ALIGNMENT
        self.numbers[start : start + image.numel()].copy_(image)
        self._taken.update(self._grains(first, units))
        return start

    def remove(self, start: int) -> None:
        """Release the run of an image."""
        first = start // ALIGNMENT
        self._allocator.release(first, self._held.pop(first))

    @property
    def num_used(self) -> int:
        """Number of numbers in runs that are held."""
        return (self._allocator.capacity - self._allocator.num_free) * ALIGNMENT

    @property
    def committed_bytes(self) -> int:
        """Memory that is taken: by images, and by removed images whose memory has not been given back."""
        return len(self._taken) * GRAIN

    def give_back(self) -> None:
        """Return the memory between the runs to the system, in whole grains."""
        for first, units in self._allocator.free_runs:
            start, stop = first * self._unit_bytes, (first + units) * self._unit_bytes
            for grain in range(-(-start // GRAIN), stop // GRAIN):
                if grain in self._taken:
                    self._taken.discard(grain)
                    size = GRAIN // self._dtype.itemsize
                    self._memory.give_back(grain * size, (grain + 1) * size)

    @property
    def _unit_bytes(self) -> int:
        return ALIGNMENT * self._dtype.itemsize

    def _grains(self, first: int, units: int) -> range:
        return range(first * self._unit_bytes // GRAIN, ((first + units) * self._unit_bytes - 1) // GRAIN + 1)

    def _grow(self, units: int) -> None:
        capacity = self._allocator.capacity
        least = max(units - self._allocator.free_at_end, capacity, RESERVE * self._num_slots * units)
        grown, added = self._reserve(capacity, least)
        for first, length in self._held.items():
            run = slice(first * ALIGNMENT, (first + length) * ALIGNMENT)
            grown.numbers[run] = self.numbers[run]
        self._memory = grown
        self._allocator.grow(added)
        self._taken = {grain for first, length in self._held.items() for grain in self._grains(first, length)}

    def _reserve(self, capacity: int, least: int) -> tuple[ReservedMemory, int]:
        """Return memory for more units, and how many it adds: all that may ever be needed, or the least necessary."""
        if self._max_bytes is not None and not capacity:
            most = max(least, RESERVE * self._max_bytes // self._unit_bytes)
            try:
                return reserve(most * ALIGNMENT, self._dtype), most
            except (OSError, RuntimeError, OverflowError):
                pass  # `reserve` has logged the failure; less is sufficient, with copies on growth
        return reserve((capacity + least) * ALIGNMENT, self._dtype), least


def size_in_units(image: Tensor) -> int:
    """Return how many units of ALIGNMENT numbers an image takes."""
    return max(1, -(-image.numel() // ALIGNMENT))
