"""Background loading of adapters from disk: bounded threads, results polled by the engine's own thread.

Owns the threads; it knows nothing of slots. Nobody waits here: a slow disk delays only those who asked for it, and
tenants take turns, so of a tenant's first load at most one of each other tenant is ahead. The threads are daemons,
because a disk that hangs must not keep the process from ending.
"""

import os
import queue
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Generic, TypeVar

from headmix_server.core.observability.logging import get_logger
from headmix_server.core.runner import AdapterLoadError, HostAdapter
from headmix_server.core.types import AdapterRef

T = TypeVar("T")

NICENESS = 10
"""How far loader threads stand back behind the computing ones: a load must not hold up the tokens of those who run."""

LEAST_PRIORITY = 19
"""The largest niceness there is."""

CLOSE_SECONDS = 1.0
"""How long `close` waits for a load in progress."""


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


@dataclass(frozen=True, slots=True)
class LoadDone:
    """A finished load: the adapter, or why there is none."""

    ref: AdapterRef
    outcome: HostAdapter | AdapterLoadError
    seconds: float


class AdapterLoader:
    """Loads each adapter at most once at a time."""

    def __init__(self, load: Callable[[AdapterRef], HostAdapter], threads: int) -> None:
        self._load = load
        self._todo: TurnQueue[AdapterRef] = TurnQueue()
        self._done: queue.SimpleQueue[LoadDone] = queue.SimpleQueue()
        self._pending: set[str] = set()
        self._threads = [
            threading.Thread(target=self._work, name=f"adapter-loader-{index}", daemon=True) for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def num_pending(self) -> int:
        """Loads queued, in progress, or done and not yet polled."""
        return len(self._pending)

    @property
    def pending(self) -> Set[str]:
        """The adapters on their way."""
        return self._pending

    def is_pending(self, digest: str) -> bool:
        """Return whether the adapter is on its way."""
        return digest in self._pending

    def start(self, ref: AdapterRef, tenant: str) -> None:
        """Begin to load an adapter for a tenant, unless that is in progress."""
        if ref.digest not in self._pending:
            self._pending.add(ref.digest)
            self._todo.put(tenant, ref)

    def _work(self) -> None:
        stand_back()
        while (ref := self._todo.get()) is not None:
            began = time.monotonic()
            self._done.put(LoadDone(ref, self._outcome(ref), time.monotonic() - began))

    def _outcome(self, ref: AdapterRef) -> HostAdapter | AdapterLoadError:
        try:
            adapter = self._load(ref)
        except AdapterLoadError as error:
            return error
        except Exception as error:  # noqa: BLE001 - whatever a file can provoke must reach those who wait, not kill a thread
            return AdapterLoadError(f"{type(error).__name__}: {error}")
        if adapter.digest != ref.digest:
            return AdapterLoadError(f"{adapter.digest} was loaded where {ref.digest} was asked for")
        return adapter

    def poll(self) -> list[LoadDone]:
        """Return the loads finished since the last call."""
        done = []
        while not self._done.empty():
            done.append(self._done.get())
            self._pending.discard(done[-1].ref.digest)
        return done

    def check_integrity(self) -> None:
        """Check that what is queued is on its way, once.

        Raises:
            RuntimeError: the accounting is broken.
        """
        queued = [ref.digest for ref in self._todo.items()]
        if len(set(queued)) != len(queued) or not self._pending.issuperset(queued):
            raise RuntimeError("a load is queued twice, or is not known to be on its way")

    def close(self) -> None:
        """Begin no further load; those in progress are waited for briefly."""
        self._todo.close()
        for thread in self._threads:
            thread.join(CLOSE_SECONDS)


def stand_back() -> None:
    """Lower the calling thread's priority where the system keeps one for each thread."""
    if sys.platform != "linux":
        return
    try:
        own = threading.get_native_id()  # it began with the niceness of the process, which may be nice itself
        os.setpriority(os.PRIO_PROCESS, own, min(LEAST_PRIORITY, os.getpriority(os.PRIO_PROCESS, own) + NICENESS))
    except OSError as error:  # a sandbox may forbid it
        get_logger("loader").warning("loads compete with running requests as equals", reason=str(error))
