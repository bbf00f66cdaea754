"""How many CPUs this process may use: its affinity, and the quotas of its control groups (v1 and v2).

A process over its quota is stopped for the rest of each period, and threads that spin while waiting for a stopped one
waste most of the speed. So code that chooses a number of threads asks here. Does not load torch.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from headmix_adapters.control_groups import ROOT, control_groups, read_lines


@dataclass(frozen=True, slots=True)
class CpuBudget:
    """The CPUs a process may run on, and how many of them it may keep busy; None means no quota."""

    affinity: int
    quota: float | None

    @property
    def cores(self) -> int:
        """The number of threads that can compute at once without being throttled by the quota."""
        return self.affinity if self.quota is None else max(1, min(self.affinity, math.ceil(self.quota)))


def read_cpu_budget(root: Path = ROOT) -> CpuBudget:
    """Return this process's budget; control groups that cannot be read are ignored."""
    quotas = [quota for group in control_groups(root, "cpu") if (quota := _quota(group)) is not None]
    return CpuBudget(_affinity(), min(quotas, default=None))


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(group: Path) -> float | None:
    """Return the number of CPUs a group may keep busy, or None if it has no limit."""
    both = read_lines(group / "cpu.max") or [
        " ".join(read_lines(group / "cpu.cfs_quota_us") + read_lines(group / "cpu.cfs_period_us"))
    ]
    try:
        quota, period = (int(part) for part in both[0].split())
    except ValueError:  # "max", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None
