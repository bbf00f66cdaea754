"""A worker: the process that does heavy work on clients' texts, one job after another, until its parent has ended.

Started by `worker_process`. Jobs arrive on standard input and results go to standard output, each as its length and a
pickle. Only the parent writes here, so it is safe to unpickle. A job that needs too much memory fails by itself.
"""

import contextlib
import gc
import os
import pickle
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from headmix_adapters.machine.giving_way import SHORT_SECONDS, give_way_when_long
from headmix_adapters.machine.parent import end_with_parent
from headmix_server.text.workers.apart import WORK_SIGNAL, run_apart
from headmix_server.text.workers.encoders import Encoders
from headmix_server.text.workers.frames import read_frame, write_frame

NICENESS = 5
"""The engine computes for all clients, so it takes precedence over a client's text. Long work gives way more."""

BOUNDED_SHORT_SECONDS = 0.25
"""When bounded work gives way: it cannot take much more, and a client should learn soon that it is refused."""

DONE, FAILED, OUT_OF_MEMORY = "done", "failed", "out of memory"


@contextlib.contextmanager
def bounded_work(seconds: float) -> Iterator[None]:
    """End this process, a worker, once what runs in here has taken so much processor time.

    For what needs the worker's caches, and so cannot run `apart`.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


class Job(Protocol):
    """What a worker runs. Jobs and results are pickled."""

    def run(self, encoders: Encoders) -> object:
        """Return the result; errors are raised again in the parent."""


@runtime_checkable
class PreparedJob(Job, Protocol):
    """A job that needs what a worker reads of the base."""

    def prepare(self, encoders: Encoders) -> None:
        """Read it. That is not the client's work: it neither gives way nor counts."""


@runtime_checkable
class BoundedJob(Job, Protocol):
    """A job that runs apart, in a process that may take so many seconds of processor time."""

    processor_seconds: float


def main(folder: str, parent: str, memory: str) -> None:
    """Serve jobs on the base in `folder`; `memory` limits the bytes they may take."""
    end_with_parent(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # up to the parent
    signal.signal(WORK_SIGNAL, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    jobs, results = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that nothing a library prints is taken for a result
    _bound_memory(int(memory))
    encoders = Encoders(Path(folder))
    gc.disable()  # it would traverse millions of parsed objects repeatedly; a job's objects are freed when it ends
    while frame := read_frame(jobs):
        kind, result = _run(frame, encoders)
        write_frame(results, result)
        del frame, result
        gc.collect()
        if kind == OUT_OF_MEMORY:
            sys.exit(1)  # the state of this process is not reliable any more


def _run(frame: bytes, encoders: Encoders) -> tuple[str, bytes]:
    try:
        job: Job = pickle.loads(frame)  # noqa: S301 - the parent's own
        if isinstance(job, PreparedJob):
            job.prepare(encoders)
        if isinstance(job, BoundedJob):
            return DONE, run_apart(lambda: _result(job, encoders, BOUNDED_SHORT_SECONDS), job.processor_seconds)
        return DONE, _result(job, encoders, SHORT_SECONDS)
    except MemoryError:
        return OUT_OF_MEMORY, pickle.dumps((OUT_OF_MEMORY, None))
    except Exception as error:  # noqa: BLE001 - any error is raised again in the parent
        return FAILED, _failure(error)


def _result(job: Job, encoders: Encoders, after: float) -> bytes:
    """Return what the parent gets, of a job that gives way after some seconds; only a lack of memory is raised."""
    try:
        return pickle.dumps((DONE, give_way_when_long(lambda: job.run(encoders), after=after)), pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - any error is raised again in the parent
        return _failure(error)


def _failure(error: Exception) -> bytes:
    error.add_note("".join(traceback.format_tb(error.__traceback__)))
    try:
        pickle.loads(pickled := pickle.dumps((FAILED, error)))  # noqa: S301 - just made
    except Exception:  # noqa: BLE001 - not every exception can be pickled
        return pickle.dumps((FAILED, RuntimeError(f"{type(error).__name__}: {error}")))
    return pickled


def _bound_memory(more: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + more, used + more))


if __name__ == "__main__":
    main(*sys.argv[1:])
