"""Integers at a fixed address on the device that the host writes anew for every step."""

from collections.abc import Sequence

import torch


class FixedNumbers:
    """`on_device` is int32 [count]. On CUDA they are written through pinned memory, without waiting for the device.

    A step's results are read back before the next step is written, so a copy never races with the next `write`.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.on_device = torch.zeros(count, dtype=torch.int32, device=device)
        pinned = device.type == "cuda" and torch.cuda.is_available()
        self._staged = torch.zeros(count, dtype=torch.int32, device="cpu", pin_memory=pinned)

    def write(self, numbers: Sequence[int]) -> None:
        """Write all of them."""
        self._staged.copy_(torch.tensor(numbers, dtype=torch.int32, device="cpu"))
        self.on_device.copy_(self._staged, non_blocking=True)
