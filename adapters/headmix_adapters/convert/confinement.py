"""The resources a conversion process may use: its priority, CPU time and memory, and how long it lives.

Owns the operating system's side. Hostile input may decide what is computed, so the limits apply before it is read.
"""

import os
import resource

import msgspec

MIB = 1 << 20
EXIT_ORPHANED = 4


class ConversionLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`seconds` of wall-clock time, `cpu_seconds` of CPU time, and memory beyond the base's mapped weights.

    `file_mib` limits the size of a file it may write; `niceness` is how far its priority is below its parent's.
    """

    seconds: float
    cpu_seconds: int
    memory_mib: int
    file_mib: int
    niceness: int


def confine(limits: ConversionLimits, *, mapped_bytes: int) -> None:
    """Lower this process's priority and apply its limits; SIGXCPU ends it when its CPU time is used up."""
    os.nice(limits.niceness)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, limits.cpu_seconds)
    _limit(resource.RLIMIT_FSIZE, limits.file_mib * MIB)  # Python ignores SIGXFSZ, so writing fails with EFBIG
    _limit(resource.RLIMIT_DATA, limits.memory_mib * MIB + mapped_bytes)


def _limit(what: int, most: int) -> None:
    """Lower a limit; never raise one that is lower already."""
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, hard))


def exit_with_parent(pipe: int) -> None:
    """Exit when the pipe reaches its end, that is when the process at its other end exits or gives up."""
    while os.read(pipe, 4096):
        pass
    os._exit(EXIT_ORPHANED)
