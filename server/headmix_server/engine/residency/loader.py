"""Background loading of adapters from disk: a bounded number of threads, results polled by the engine's own thread.

Owns the threads; it knows nothing of slots. It never blocks the engine: a slow disk delays only those who asked for its
adapters. Tenants take turns, so at most one load of each other tenant is ahead of a tenant's first load. The threads
are daemons, because a hanging disk must not prevent the process from exiting.
"""

import queue
import threading
import time
from collections.abc import Callable, Set
from dataclasses import dataclass

from headmix_server.core.runner import AdapterLoadError, HostAdapter
from headmix_server.core.types import AdapterRef
from headmix_server.engine.background import TurnQueue, stand_behind_steps

CLOSE_SECONDS = 1.0
"""How long `close` waits for a load in progress."""


@dataclass(frozen=True, slots=True)
class LoadDone:
    """A finished load: the adapter, or the error if there is none."""

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
        """Number of loads that are queued, in progress, or finished but not polled yet."""
        return len(self._pending)

    @property
    def pending(self) -> Set[str]:
        """The adapters being loaded."""
        return self._pending

    def is_pending(self, digest: str) -> bool:
        """Return whether the adapter is being loaded."""
        return digest in self._pending

    def start(self, ref: AdapterRef, tenant: str) -> None:
        """Begin to load an adapter for a tenant, unless that is already in progress."""
        if ref.digest not in self._pending:
            self._pending.add(ref.digest)
            self._todo.put(tenant, ref)

    def _work(self) -> None:
        stand_behind_steps()
        while (ref := self._todo.get()) is not None:
            began = time.monotonic()
            self._done.put(LoadDone(ref, self._outcome(ref), time.monotonic() - began))

    def _outcome(self, ref: AdapterRef) -> HostAdapter | AdapterLoadError:
        try:
            adapter = self._load(ref)
        except AdapterLoadError as error:
            return error
        except Exception as error:  # noqa: BLE001 - a file's failures must reach those waiting, not kill a thread
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
        """Check that every queued load is pending, and queued only once.

        Raises:
            RuntimeError: the accounting is broken.
        """
        queued = [ref.digest for ref in self._todo.items()]
        if len(set(queued)) != len(queued) or not self._pending.issuperset(queued):
            raise RuntimeError("a load is queued twice, or is not known to be on its way")

    def close(self) -> None:
        """Stop starting loads; waits briefly for those in progress."""
        self._todo.close()
        for thread in self._threads:
            thread.join(CLOSE_SECONDS)
