"""A part of a worker's job in a process of its own, which is ended when it takes too long or too much memory.

For libraries that cannot be interrupted: the worker, which takes a second to start, goes on. The process is a fork of
the worker, so everything that the worker has read is there.
"""

import os
import signal
from collections.abc import Callable
from typing import NoReturn

from headmix_adapters.machine.parent import end_with_parent
from headmix_server.core.errors import PayloadTooLarge, ServerOverloaded
from headmix_server.text.workers.frames import read_frame, write_frame

WORK_SIGNAL = signal.SIGPROF
"""What ends a process whose work takes too much processor time."""

TOO_MUCH_MEMORY = "Reading this text takes more memory than a request may use."


class TooMuchWorkError(Exception):
    """A job took more processor time than it may; its process has ended."""


def run_apart(work: Callable[[], bytes], seconds: float) -> bytes:
    """Return the work's result from a process that may take so many seconds of processor time.

    Called from a process with one thread. A busy machine does not make the work end earlier.

    Raises:
        TooMuchWorkError: it took longer.
        PayloadTooLarge: it got no more memory.
        ServerOverloaded: the process ended otherwise.
    """
    parent, (receiving, sending) = os.getpid(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        _work(work, seconds, sending, parent)
    os.close(sending)
    with os.fdopen(receiving, "rb") as results:
        result = read_frame(results)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if result is not None:
        return result
    if status == -WORK_SIGNAL:
        raise TooMuchWorkError
    if status in (-signal.SIGABRT, _OUT_OF_MEMORY):  # the former is how libraries in Rust end if they get no memory
        raise PayloadTooLarge(TOO_MUCH_MEMORY)
    raise ServerOverloaded("The process that reads long texts ended while it read this one; try again.")


_OUT_OF_MEMORY = 3


def _work(work: Callable[[], bytes], seconds: float, sending: int, parent: int) -> NoReturn:
    """Do the work and end this process, whatever happens, without the clean-up that is the worker's."""
    status = 1
    try:
        end_with_parent(parent)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        with os.fdopen(sending, "wb") as results:
            write_frame(results, work())
        status = 0
    except MemoryError:
        status = _OUT_OF_MEMORY
    finally:
        os._exit(status)
