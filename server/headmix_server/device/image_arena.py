"""The adapter images of one dtype as one flat tensor in the CPU's memory, each in a contiguous run.

Owns the memory and who holds which part of it; what the numbers mean is the images'.
"""

import torch
from torch import Tensor

from headmix_server.device.adapter_image import ALIGNMENT
from headmix_server.device.reserved_memory import reserve
from headmix_server.device.run_allocator import RunAllocator

RESERVE = 4
"""How many times the memory of all slots is reserved; what is not used costs nothing."""


class ImageArena:
    """Grows when it must. `numbers` is another tensor after it has grown; the runs keep their places in it.

    The first image reserves room for `num_slots` of several times its size and later growth doubles that, so images
    move (a copy of everything) only when adapters turn out far larger than the first.
    """

    def __init__(self, num_slots: int, dtype: torch.dtype) -> None:
        self.numbers = torch.empty(0, dtype=dtype)  # [capacity]
        self._num_slots = num_slots
        self._allocator = RunAllocator()  # of units of ALIGNMENT numbers

    def put(self, image: Tensor) -> int:
        """Copy an image [n] into a run of its own; returns the run's first number.

        Raises:
            OSError, RuntimeError: there is no memory for it; nothing is held.
        """
        units = _units(image.numel())
        first = self._allocator.allocate(units)
        if first is None:
            self._grow(units)
            first = self._allocator.allocate(units)
        if first is None:
            raise RuntimeError("the arena grew and still has no run that is long enough")
        start = first * ALIGNMENT
        self.numbers[start : start + image.numel()].copy_(image)
        return start

    def remove(self, start: int, numel: int) -> None:
        """Take back the run of an image of `numel` numbers."""
        self._allocator.release(start // ALIGNMENT, _units(numel))

    @property
    def num_used(self) -> int:
        """Numbers in runs that are held."""
        return (self._allocator.capacity - self._allocator.num_free) * ALIGNMENT

    def _grow(self, units: int) -> None:
        capacity = self._allocator.capacity
        missing = units - self._allocator.free_at_end
        added = max(missing, capacity, RESERVE * self._num_slots * units)
        grown = reserve((capacity + added) * ALIGNMENT, self.numbers.dtype)
        used = (capacity - self._allocator.free_at_end) * ALIGNMENT
        grown[:used] = self.numbers[:used]
        self.numbers = grown
        self._allocator.grow(added)


def _units(numel: int) -> int:
    return max(1, -(-numel // ALIGNMENT))
