"""What the process of a conversion may take of the machine: its priority, CPU time and memory, and how long it lives.

Owns the operating system's side. What it computes is hostile input's to decide, so the limits hold before it is read.
"""

import contextlib
import os
import resource
from pathlib import Path

import msgspec

MOST_NICE = 19
MIB = 1 << 20
EXIT_ORPHANED = 4


class ConversionLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`seconds` of the clock, `cpu_seconds` of computing, and memory next to what is mapped of the base's weights.

    `file_mib` is how large a file it may write, `niceness` how far its priority is below its parent's.
    """

    seconds: float
    cpu_seconds: int
    memory_mib: int
    file_mib: int
    niceness: int


def confine(limits: ConversionLimits, *, mapped_bytes: int) -> None:
    """Put this process behind others and under its limits; SIGXCPU ends it when its CPU time is over."""
    os.nice(limits.niceness)
    _stand_back_as_session(limits.niceness)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, limits.cpu_seconds)
    _limit(resource.RLIMIT_FSIZE, limits.file_mib * MIB)  # Python ignores its signal, and writing fails with EFBIG
    _limit(resource.RLIMIT_DATA, limits.memory_mib * MIB + mapped_bytes)


def session_niceness(autogroup: str) -> int:
    """Return the niceness told by a process's `/proc/<pid>/autogroup`, such as `/autogroup-25 nice 0`.

    The file is empty for a process of the first session, as under an init or in a container: that one has none, 0.
    """
    _, _, niceness = autogroup.rpartition(" nice ")
    return int(niceness or 0)


def _stand_back_as_session(niceness: int) -> None:
    """Linux may share the CPU by session first (autogroup); then niceness counts within a session alone."""
    with contextlib.suppress(OSError, ValueError):
        parent = session_niceness(Path(f"/proc/{os.getppid()}/autogroup").read_text())
        Path("/proc/self/autogroup").write_text(str(min(MOST_NICE, parent + niceness)))


def _limit(what: int, most: int) -> None:
    """Lower a limit; what the system allows less of already stays."""
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, hard))


def exit_with_parent(pipe: int) -> None:
    """Read a pipe to its end, which comes only when the process at its other end is gone or gives up; then end."""
    while os.read(pipe, 4096):
        pass
    os._exit(EXIT_ORPHANED)
