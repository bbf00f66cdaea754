"""What the engine's background threads share: a queue in which tenants take turns, and a priority below the steps'.

Knows nothing of the work, which is loading adapters or compiling grammars.
"""

import sys
import threading
from collections import OrderedDict, deque
from typing import Generic, TypeVar

from headmix_adapters.machine.giving_way import stand_back
from headmix_server.core.observability.logging import get_logger

T = TypeVar("T")


class TurnQueue(Generic[T]):
    """First in, first out within a tenant, round-robin between the tenants that have something queued."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[T]] = OrderedDict()  # the tenant to be served next comes first
        self._changed = threading.Condition()
        self._closed = False

    def put(self, tenant: str, item: T) -> None:
        """Queue an item."""
        with self._changed:
            self._lines.setdefault(tenant, deque()).append(item)
            self._changed.notify()

    def get(self) -> T | None:
        """Wait for the next item and take it; returns None once the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._closed)
            if self._closed:
                return None
            tenant, line = self._lines.popitem(last=False)
            item = line.popleft()
            if line:
                self._lines[tenant] = line  # behind the others
            return item

    def items(self) -> list[T]:
        """Return the queued items, tenant by tenant.

        Raises:
            RuntimeError: a tenant's line is empty, so serving it would return nothing.
        """
        with self._changed:
            if not all(self._lines.values()):
                raise RuntimeError("a tenant with nothing queued has a line")
            return [item for line in self._lines.values() for item in line]

    def close(self) -> None:
        """Wake everyone who waits; queued items are dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def stand_behind_steps() -> None:
    """Give the calling thread a low priority: background work must not delay tokens of running requests."""
    thread = threading.current_thread()
    if not stand_back(thread) and sys.platform == "linux":  # a sandbox may forbid it
        get_logger("engine").warning("background work competes with running requests as an equal", thread=thread.name)
