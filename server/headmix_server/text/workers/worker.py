"""A worker: the process that does heavy work on clients' texts, one job after another, until its parent has ended.

Started by `worker_process`. Jobs arrive on standard input and results go to standard output, each as its length and a
pickle. Only the parent writes here, so it is safe to unpickle. A job that needs too much memory fails by itself.
"""

import contextlib
import ctypes
import gc
import os
import pickle
import resource
import signal
import struct
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from headmix_adapters.machine.giving_way import give_way_when_long
from headmix_server.text.workers.encoders import Encoders

LENGTH = struct.Struct(">Q")
NICENESS = 5
"""The engine computes for all clients, so it takes precedence over a client's text. Long work gives way more."""

DONE, FAILED, OUT_OF_MEMORY = "done", "failed", "out of memory"
WORK_SIGNAL = signal.SIGPROF
"""What ends a worker whose job takes too much processor time."""
_PR_SET_PDEATHSIG = 1


class TooMuchWorkError(Exception):
    """A job took more processor time than it may; its process has ended."""


@contextlib.contextmanager
def bounded_work(seconds: float) -> Iterator[None]:
    """End this process, a worker, once what runs in here has taken so much processor time.

    For libraries that cannot be interrupted. A busy machine does not make it end earlier.
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


def main(folder: str, parent: str, memory: str) -> None:
    """Serve jobs on the base in `folder`; `memory` limits the bytes they may take."""
    _end_with(int(parent))
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


def read_frame(stream: BinaryIO) -> bytes | None:
    """Return the next frame, or None if the stream ends, even within a frame."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = stream.read(length)
    return body if len(body) == length else None


def write_frame(stream: BinaryIO, body: bytes) -> None:
    """Write a frame."""
    stream.write(LENGTH.pack(len(body)))
    stream.write(body)
    stream.flush()


def _run(frame: bytes, encoders: Encoders) -> tuple[str, bytes]:
    try:
        job: Job = pickle.loads(frame)  # noqa: S301 - the parent's own
        result = give_way_when_long(lambda: job.run(encoders))
        return DONE, pickle.dumps((DONE, result), pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        return OUT_OF_MEMORY, pickle.dumps((OUT_OF_MEMORY, None))
    except Exception as error:  # noqa: BLE001 - any error is raised again in the parent
        return FAILED, _failure(error)


def _failure(error: Exception) -> bytes:
    error.add_note("".join(traceback.format_tb(error.__traceback__)))
    try:
        pickle.loads(pickled := pickle.dumps((FAILED, error)))  # noqa: S301 - just made
    except Exception:  # noqa: BLE001 - not every exception can be pickled
        return pickle.dumps((FAILED, RuntimeError(f"{type(error).__name__}: {error}")))
    return pickled


def _end_with(parent: int) -> None:
    """Have the system end this process when its parent ends, even during a job."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def _bound_memory(more: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + more, used + more))


if __name__ == "__main__":
    main(*sys.argv[1:])
