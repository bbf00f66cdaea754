"""Copies from host memory to the device, concurrent with computation, and waiting for them before their data is read.

Copies run on their own stream: a step waits, on the device, only for the copies into the slots that its rows use.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor


class Ticket(Protocol):
    """A copy that was started; opaque to all but its `Transfer`."""


class Transfer(Protocol):
    """One device's way of copying."""

    def stage(self, tensor: Tensor) -> Tensor:
        """Return a tensor in host memory that `start` can copy from without waiting; called on loader threads."""
        ...

    def start(self, copies: Callable[[], None]) -> Ticket:
        """Run `copies`, which writes to memory that no step now running reads."""
        ...

    def wait(self, tickets: Iterable[Ticket]) -> None:
        """Make all later computation wait until these copies are done."""
        ...


class StreamTransfer:
    """CUDA's `Transfer`. Staged tensors are pinned; torch keeps their memory until the copy has read it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types here

    def stage(self, tensor: Tensor) -> Tensor:
        """See `Transfer`."""
        return tensor.pin_memory()

    def start(self, copies: Callable[[], None]) -> Ticket:
        """See `Transfer`."""
        # the copies may write where a step still running on the device reads: to a run that was reused
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            copies()
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(self._stream)
        return event

    def wait(self, tickets: Iterable[Ticket]) -> None:
        """See `Transfer`."""
        stream = torch.cuda.current_stream(self._device)
        for ticket in tickets:
            if isinstance(ticket, torch.cuda.Event):
                stream.wait_event(ticket)
