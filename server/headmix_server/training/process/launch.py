"""Runs a program within limits: `python -m headmix_server.training.process.launch LIMITS PARENT PROGRAM ARGUMENTS...`.

The limits hold before the program begins. It ends with the thread that started it, which `PARENT` (a process id) helps
to check. Owns the operating system's side of sharing a machine; systems that lack a means go without it.
"""

import contextlib
import os
import resource
import signal
import sys
from pathlib import Path

import msgspec

from headmix_adapters.machine.giving_way import LOWEST_PRIORITY
from headmix_adapters.machine.parent import end_with_parent

MIB = 1 << 20
EXIT_ORPHANED = 4
_FIRST_VICTIM = "1000"


class TrainerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How a training shares its machine.

    `yields` runs it only on cores that nothing else wants (Linux' SCHED_IDLE), at the lowest priority; `cores` are
    those it may run on, empty for all; `memory_mib` limits the memory it may allocate, 0 for no limit.
    """

    yields: bool = False
    cores: tuple[int, ...] = ()
    memory_mib: int = 0


_LIMITS = msgspec.json.Decoder(TrainerLimits)


def main(arguments: list[str]) -> None:
    """Apply the limits, then become the program."""
    limits, parent, program = _LIMITS.decode(arguments[0]), int(arguments[1]), arguments[2:]
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # its parent may ignore it, and it is how a training is paused
    end_with_parent(parent, status=EXIT_ORPHANED)
    apply_limits(limits)
    os.execv(program[0], program)  # noqa: S606 - the worker's own command line


def apply_limits(limits: TrainerLimits) -> None:
    """Limit this process and what it will start."""
    if limits.yields:
        os.nice(LOWEST_PRIORITY)
        if hasattr(os, "SCHED_IDLE"):
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if limits.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, limits.cores)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limits.memory_mib:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = limits.memory_mib * MIB
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    # If the machine runs out of memory, the training is killed, and not a server.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_VICTIM, encoding="ascii")


if __name__ == "__main__":
    main(sys.argv[1:])
