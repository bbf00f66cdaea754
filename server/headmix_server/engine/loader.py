"""Background loading of adapters from disk: bounded threads, results polled by the engine's own thread.

Owns the threads; it knows nothing of slots. Nobody waits here: a slow disk delays only those who asked for it.
"""

import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from headmix_server.core.types import AdapterRef
from headmix_server.engine.runner import AdapterLoadError, HostAdapter


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
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="adapter-loader")
        self._done: queue.SimpleQueue[LoadDone] = queue.SimpleQueue()
        self._pending: set[str] = set()

    @property
    def busy(self) -> bool:
        """Whether any load is under way or its result not yet polled."""
        return bool(self._pending)

    def start(self, ref: AdapterRef) -> None:
        """Begin to load an adapter, unless that is under way."""
        if ref.digest not in self._pending:
            self._pending.add(ref.digest)
            self._pool.submit(self._run, ref)

    def _run(self, ref: AdapterRef) -> None:
        began = time.monotonic()
        outcome: HostAdapter | AdapterLoadError
        try:
            outcome = self._load(ref)
        except AdapterLoadError as error:
            outcome = error
        except Exception as error:  # noqa: BLE001 - whatever a file can provoke must reach those who wait, not kill a thread
            outcome = AdapterLoadError(f"{type(error).__name__}: {error}")
        self._done.put(LoadDone(ref, outcome, time.monotonic() - began))

    def poll(self) -> list[LoadDone]:
        """Return the loads finished since the last call."""
        done = []
        while not self._done.empty():
            done.append(self._done.get())
            self._pending.discard(done[-1].ref.digest)
        return done

    def close(self) -> None:
        """Stop taking loads; those under way are waited for."""
        self._pool.shutdown(wait=True, cancel_futures=True)
