"""Work that may turn out long: it begins at the process's priority and continues at a low one.

Short work must not wait long for a core, and nobody can tell beforehand which work is long. A priority still lower than
this one would let long work starve on a machine that is busy for minutes. Knows nothing of the work.
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

LONG_NICENESS = 10
"""Of long work: next to threads that compute without end, it gets about a tenth of their share."""

LOWEST_PRIORITY = 19
"""The largest niceness value."""

_TICK_SECONDS = 0.02


def give_way_when_long(work: Callable[[], T], *, after: float = SHORT_SECONDS) -> T:
    """Return the work's result, or raise what it raises, from a thread of its own.

    It is long once it has taken `after` seconds of processor time.

    A thread that has stood back cannot come forward again without privileges, so it ends with its work.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="gives-way") as pool:
        running: Future[threading.Thread] = pool.submit(threading.current_thread)
        thread = running.result()
        result = pool.submit(work)
        while not _ends_within_a_tick(result):
            if _processor_seconds(thread) >= after:
                stand_back(thread)
                break
        return result.result()


def stand_back(thread: threading.Thread) -> bool:
    """Give a running thread the low priority, unless it has a lower one; return false where that is not possible."""
    if sys.platform != "linux" or thread.native_id is None:
        return False
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        own = os.getpriority(os.PRIO_PROCESS, thread.native_id)
        os.setpriority(os.PRIO_PROCESS, thread.native_id, max(own, LONG_NICENESS))
        return True
    return False


def _ends_within_a_tick(result: "Future[T]") -> bool:
    with contextlib.suppress(TimeoutError):
        result.exception(_TICK_SECONDS)
        return True
    return result.done()


def _processor_seconds(thread: threading.Thread) -> float:
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident)) if thread.ident is not None else 0.0
