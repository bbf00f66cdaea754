"""Copies from host memory to the device next to the computation, and waiting for them before their result is read.

A copy runs on its own stream: a step waits, on the device, for the copies of the slots its rows use and for no
other.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor


class Ticket(Protocol):
    """A copy that was started; opaque to everyone but who made it."""


class Transfer(Protocol):
    """One device's way of copying."""

    def stage(self, tensor: Tensor) -> Tensor:
        """Return a tensor's numbers in host memory that `start` copies from without waiting; for loader threads."""
        ...

    def start(self, copies: Callable[[], None]) -> Ticket:
        """Run `copies`, which writes to memory that no step now running reads."""
        ...

    def wait(self, tickets: Iterable[Ticket]) -> None:
        """Let nothing that is computed from now on begin before these copies are done."""
        ...


class StreamTransfer:
    """See `Transfer`: CUDA's. Staged tensors are pinned; torch keeps their memory until the copy has read it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types here

    def stage(self, tensor: Tensor) -> Tensor:
        """See `Transfer`."""
        return tensor.pin_memory()

    def start(self, copies: Callable[[], None]) -> Ticket:
        """See `Transfer`."""
        # what a step still running on the device reads may lie where the copies will write: a run that was handed on
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
