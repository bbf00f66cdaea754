"""Numbers between host and device without waiting for it: what is sent goes ahead, what is due comes back at once.

A step awaits the device once, in `Readback.fetch`, whatever its rows ask for.
"""

import torch
from torch import Tensor


def send(numbers: Tensor, device: torch.device) -> Tensor:
    """Return numbers of the host on the device, without waiting for what it computes."""
    if device.type == "cpu":
        return numbers
    if device.type == "cuda" and torch.cuda.is_available():
        numbers = numbers.pin_memory()
    return numbers.to(device, non_blocking=True)


class Readback:
    """Collects the numbers that a step has for the host, and brings them there together."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self._size = 0
        self._fetched: Tensor | None = None

    def ask(self, numbers: Tensor) -> "Awaited":
        """Return a place for numbers, which holds them once they are fetched; whole ones have 32 bits at most."""
        whole = not numbers.is_floating_point()
        flat = (numbers.int() if whole else numbers.float().contiguous().view(torch.int32)).flatten()
        self._parts.append(flat)
        awaited = Awaited(self, self._size, numbers.shape, whole=whole)
        self._size += flat.numel()
        return awaited

    def fetch(self) -> None:
        """Bring everything that was asked for."""
        self._fetched = torch.cat(self._parts).cpu()
        self._parts.clear()

    def part(self, start: int, end: int) -> Tensor:
        """Return some of what was fetched, as int32 bits.

        Raises:
            RuntimeError: nothing was fetched yet.
        """
        if self._fetched is None:
            raise RuntimeError("the device's numbers are read before they were fetched")
        return self._fetched[start:end]


class Awaited:
    """Numbers that were asked for."""

    def __init__(self, back: Readback, start: int, shape: torch.Size, *, whole: bool) -> None:
        self._back = back
        self._start = start
        self._shape = shape
        self._whole = whole

    def read(self) -> Tensor:
        """Return them on the host: int32, or float32."""
        part = self._back.part(self._start, self._start + self._shape.numel())
        return (part if self._whole else part.view(torch.float32)).view(self._shape)
