"""A worker: the process that does heavy work on clients' texts, one job after the other, until its parent is gone.

Started by `worker_process`. Jobs come on standard input and results go to standard output, each a pickle after its
length. Only the parent writes here, so what is unpickled is its own. A job that needs too much memory fails alone.
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
from pathlib import Path
from typing import BinaryIO, Protocol

from headmix_server.text.workers.encoders import Encoders

LENGTH = struct.Struct(">Q")
NICENESS = 5
"""The engine computes for everybody; what reads one client's long text comes after it."""

DONE, FAILED, OUT_OF_MEMORY = "done", "failed", "out of memory"
_PR_SET_PDEATHSIG = 1


class Job(Protocol):
    """What a worker runs. It and its result are pickled."""

    def run(self, encoders: Encoders) -> object:
        """Return the result; what it raises is raised where the job came from."""


def main(folder: str, parent: str, memory: str) -> None:
    """Serve jobs over the base in `folder`; `memory` bounds what they may take, in bytes."""
    _end_with(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    jobs, results = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no result
    _bound_memory(int(memory))
    encoders = Encoders(Path(folder))
    gc.disable()  # it would look through millions of parsed objects again and again; what a job makes ends with it
    while frame := read_frame(jobs):
        kind, result = _run(frame, encoders)
        write_frame(results, result)
        del frame, result
        gc.collect()
        if kind == OUT_OF_MEMORY:
            sys.exit(1)  # what is left of this process is not to be relied on


def read_frame(stream: BinaryIO) -> bytes | None:
    """Return the next frame; None at the end of the stream, even in the middle of a frame."""
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
        return DONE, pickle.dumps((DONE, job.run(encoders)), pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        return OUT_OF_MEMORY, pickle.dumps((OUT_OF_MEMORY, None))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where the job came from
        return FAILED, _failure(error)


def _failure(error: Exception) -> bytes:
    error.add_note("".join(traceback.format_tb(error.__traceback__)))
    try:
        pickle.loads(pickled := pickle.dumps((FAILED, error)))  # noqa: S301 - just made
    except Exception:  # noqa: BLE001 - not every exception can be sent
        return pickle.dumps((FAILED, RuntimeError(f"{type(error).__name__}: {error}")))
    return pickled


def _end_with(parent: int) -> None:
    """Have the system end this process when its parent ends, in the middle of a job too."""
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
