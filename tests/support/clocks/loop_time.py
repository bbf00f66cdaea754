"""How long callbacks blocked the event loop, in CPU time, so that a busy machine cannot make a test fail.

Wall time would count what others do on the machine. Here each callback is charged the CPU time of its own thread,
minus that of the garbage collector, whose work depends on everything the test process has loaded. Under a tracer, such
as that of `make coverage`, which takes several times as long for each line, nothing is judged.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

BOUND = 0.05
"""Seconds; a callback that computes longer than this blocks everything else too long."""


@dataclass
class LoopTime:
    """The callbacks that computed longer than the bound, each with its seconds; `longest` covers all callbacks."""

    longest: float = 0.0
    blocked: list[str] = field(default_factory=list)


class _Collector:
    """CPU seconds that the garbage collector has taken."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def __call__(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.thread_time()
        else:
            self.seconds += time.thread_time() - self._began


@contextmanager
def loop_time(bound: float = BOUND) -> Iterator[LoopTime]:
    """Measure every callback of asyncio's event loops.

    Raises:
        AssertionError: at the end, if any callback computed for longer than `bound` seconds and there is no tracer;
            names them.
    """
    measured, collector, run = LoopTime(), _Collector(), asyncio.events.Handle._run

    def measure(handle: asyncio.Handle) -> None:
        began, collected = time.thread_time(), collector.seconds
        run(handle)
        seconds = time.thread_time() - began - (collector.seconds - collected)
        measured.longest = max(measured.longest, seconds)
        if seconds > bound:
            measured.blocked.append(f"{seconds:.3f} s in {_describe(handle)}")

    handle_class: Any = asyncio.events.Handle
    gc.callbacks.append(collector)
    handle_class._run = measure
    try:
        yield measured
    finally:
        handle_class._run = run
        gc.callbacks.remove(collector)
    assert is_traced() or not measured.blocked, f"the event loop was blocked: {measured.blocked[:5]}"


def is_traced() -> bool:
    """Return whether each line of this thread costs a tracer's time too."""
    return sys.gettrace() is not None


def _describe(handle: asyncio.Handle) -> str:
    """Return what a handle ran: the coroutine of a task, which its repr hides behind the task's step."""
    task = getattr(getattr(handle, "_callback", None), "__self__", None)
    return repr(task.get_coro()) if isinstance(task, asyncio.Task) else repr(handle)
