"""Which core each of a team's threads stays on, where the team uses every core that the process may run on.

Threads that wait for each other and move freely can end up on one core while another program has a core to itself; each
then spins until it sleeps, hundreds of times per step. A team that leaves cores free is left to the system, since
another program may keep to the same ones. Does not load torch.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from headmix_adapters.machine.cpus import CpuBudget

OPERATORS_CHOICE = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
"""Variables with which an operator says where threads run."""

CPUS = Path("/sys/devices/system/cpu")


def choose_cores(
    threads: int, budget: CpuBudget, environment: Mapping[str, str] = os.environ, folder: Path = CPUS
) -> Sequence[Sequence[int]] | None:
    """Return the CPUs of each thread: one, or those of one physical core; None leaves the threads to the system."""
    if not hasattr(os, "sched_getaffinity") or threads < 2 or budget.cores < budget.affinity:
        return None
    if any(name in environment for name in OPERATORS_CHOICE):
        return None
    cpus = sorted(os.sched_getaffinity(0))
    if threads == len(cpus):
        return [[cpu] for cpu in cpus]
    cores = _physical_cores(cpus, folder)
    return cores if threads == len(cores) else None


def _physical_cores(cpus: Sequence[int], folder: Path) -> Sequence[Sequence[int]]:
    """Return the CPUs grouped by core; one whose siblings cannot be read has a core of its own."""
    cores: dict[str, list[int]] = {}
    for cpu in cpus:
        try:
            siblings = (folder / f"cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii").strip()
        except OSError:
            siblings = str(cpu)
        cores.setdefault(siblings, []).append(cpu)
    return list(cores.values())
