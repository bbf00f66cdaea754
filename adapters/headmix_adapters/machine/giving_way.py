"""Work that may turn out long: it begins at the process's priority and continues at the lowest.

Where the engine's threads wait for each other, a thread of equal priority that computes without end costs it most of
its speed. Short work must not wait for that, and nobody can tell beforehand which work is long. Knows nothing of the
work.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

SHORT_SECONDS = 0.05
"""Processor time after which work is long."""

LOWEST_PRIORITY = 19
"""The largest niceness value."""

_TICK_SECONDS = 0.02


def give_way_when_long(work: Callable[[], T]) -> T:
    """Return the work's result, or raise what it raises, from a thread of its own.

    A thread that has stood back cannot come forward again without privileges, so it ends with its work.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="gives-way") as pool:
        running: Future[threading.Thread] = pool.submit(threading.current_thread)
        thread = running.result()
        result = pool.submit(work)
        while not _ends_within_a_tick(result):
            if _processor_seconds(thread) >= SHORT_SECONDS:
                stand_back(thread)
                break
        return result.result()


def stand_back(thread: threading.Thread) -> bool:
    """Give a running thread the lowest priority; return false where a system cannot or may not do so."""
    if sys.platform != "linux" or thread.native_id is None:
        return False
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        os.setpriority(os.PRIO_PROCESS, thread.native_id, LOWEST_PRIORITY)
        return True
    return False


def _ends_within_a_tick(result: "Future[T]") -> bool:
    with contextlib.suppress(TimeoutError):
        result.exception(_TICK_SECONDS)
        return True
    return result.done()


def _processor_seconds(thread: threading.Thread) -> float:
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident)) if thread.ident is not None else 0.0
