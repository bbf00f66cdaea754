"""Ends a process with the one that started it, whatever either is doing."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, *, status: int = 1) -> None:
    """Have Linux kill this process when the thread that started it ends; where there is no such call, do without.

    `parent` is the id of the process that started it: if that has ended before, this one exits with `status`.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(status)
