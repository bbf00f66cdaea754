"""A queue between threads that serves tenants in turn, so that nobody waits behind all that another has queued."""

import threading
from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class TurnQueue(Generic[T]):
    """First in, first out for each tenant; of tenants with something queued each is served once before any is again."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[T]] = OrderedDict()  # who is served next stands first
        self._changed = threading.Condition()
        self._closed = False

    def put(self, tenant: str, item: T) -> None:
        """Queue an item."""
        with self._changed:
            self._lines.setdefault(tenant, deque()).append(item)
            self._changed.notify()

    def get(self) -> T | None:
        """Wait for the next item and take it; None once the queue is closed."""
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
        """Return what is queued, line by line.

        Raises:
            RuntimeError: a tenant has a line with nothing in it, so it would be served nothing.
        """
        with self._changed:
            if not all(self._lines.values()):
                raise RuntimeError("a tenant with nothing queued has a line")
            return [item for line in self._lines.values() for item in line]

    def close(self) -> None:
        """Let nobody wait any more; what is queued is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
