"""Transfers between host and device without stalling: inputs are sent asynchronously, results come back all at once.

A step waits for the device once, in `Readback.fetch`, regardless of what its rows request.
"""

import torch
from torch import Tensor


def send(numbers: Tensor, device: torch.device) -> Tensor:
    """Return host numbers on the device, without waiting for its computation."""
    if device.type == "cpu":
        return numbers
    if device.type == "cuda" and torch.cuda.is_available():
        numbers = numbers.pin_memory()
    return numbers.to(device, non_blocking=True)


class Readback:
    """Collects the numbers that a step has for the host, and fetches them together."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self._size = 0
        self._fetched: Tensor | None = None

    def ask(self, numbers: Tensor) -> "Awaited":
        """Register numbers to be fetched and return their placeholder; integers may have at most 32 bits."""
        whole = not numbers.is_floating_point()
        flat = (numbers.int() if whole else numbers.float().contiguous().view(torch.int32)).flatten()
        self._parts.append(flat)
        awaited = Awaited(self, self._size, numbers.shape, whole=whole)
        self._size += flat.numel()
        return awaited

    def fetch(self) -> None:
        """Fetch everything that was registered."""
        self._fetched = torch.cat(self._parts).cpu()
        self._parts.clear()

    def part(self, start: int, end: int) -> Tensor:
        """Return a part of what was fetched, as int32 bits.

        Raises:
            RuntimeError: nothing has been fetched yet.
        """
        if self._fetched is None:
            raise RuntimeError("the device's numbers are read before they were fetched")
        return self._fetched[start:end]


class Awaited:
    """A placeholder for numbers registered with a `Readback`."""

    def __init__(self, back: Readback, start: int, shape: torch.Size, *, whole: bool) -> None:
        self._back = back
        self._start = start
        self._shape = shape
        self._whole = whole

    def read(self) -> Tensor:
        """Return them on the host: int32 or float32."""
        part = self._back.part(self._start, self._start + self._shape.numel())
        return (part if self._whole else part.view(torch.float32)).view(self._shape)
