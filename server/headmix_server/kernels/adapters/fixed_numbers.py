"""Integers at a fixed device address that the host rewrites for every step."""

from collections.abc import Sequence

import numpy as np
import torch


class FixedNumbers:
    """`on_device` is int32 [count]. On CUDA it is written through pinned memory, without waiting for the device.

    `staged` is the host's copy, int32 [count]: write into it and `send`, or `write` all numbers at once. A step's
    results are read back before the next step is written, so a copy never races with the next write.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.on_device = torch.zeros(count, dtype=torch.int32, device=device)
        pinned = device.type == "cuda" and torch.cuda.is_available()
        self._host = torch.zeros(count, dtype=torch.int32, device="cpu", pin_memory=pinned)
        self.staged: np.ndarray[tuple[int, ...], np.dtype[np.int32]] = np.zeros(count, np.int32)

    def write(self, numbers: Sequence[int]) -> None:
        """Write all numbers."""
        self.staged[:] = numbers
        self.send()

    def send(self) -> None:
        """Copy the staged numbers to the device."""
        self._host.copy_(torch.tensor(self.staged, device="cpu"))
        self.on_device.copy_(self._host, non_blocking=True)
