"""How many CPUs this process may use: its affinity, and the quotas of its control groups (versions 1 and 2).

A process over its quota is stopped for the rest of each period, and threads that spin while they wait for a stopped
one cost most of the speed. So whoever counts CPUs to decide on a number of threads asks here. Loads no torch.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class CpuBudget:
    """The CPUs a process may run on, and how many of them it may keep busy; None is no quota."""

    affinity: int
    quota: float | None

    @property
    def cores(self) -> int:
        """Threads that can compute at once without being stopped for their quota."""
        return self.affinity if self.quota is None else max(1, min(self.affinity, math.ceil(self.quota)))


def read_cpu_budget(root: Path = ROOT) -> CpuBudget:
    """Return this process's budget; control groups that cannot be read count as none."""
    quotas = [quota for group in _groups(root) if (quota := _quota(group)) is not None]
    return CpuBudget(_affinity(), min(quotas, default=None))


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Mount(NamedTuple):
    """A mounted hierarchy of control groups: `top` is the group that is seen at `place`."""

    place: Path
    top: PurePosixPath
    version: int


def _groups(root: Path) -> Iterator[Path]:
    """Return the folders of the process's own groups and of all above them: each may have a quota, and all count."""
    own = {1: "", 2: ""}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            own[2] = path
        elif "cpu" in controllers.split(","):
            own[1] = path
    for mount in _mounts(root):
        group = PurePosixPath(own[mount.version])
        below = group.relative_to(mount.top) if group.is_relative_to(mount.top) else PurePosixPath()
        # In a container without a namespace of its own for groups the path is the host's, and its group is at the top.
        folder = mount.place / below if ".." not in below.parts else mount.place
        yield folder
        for parent in folder.parents:
            if not parent.is_relative_to(mount.place):
                break
            yield parent


def _mounts(root: Path) -> Iterator[_Mount]:
    for line in _lines(root / "proc/self/mountinfo"):
        fields, _, rest = line.partition(" - ")
        _, _, _, top, place, *_ = fields.split(" ")
        kind, _, options = rest.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            yield _Mount(root / place.lstrip("/"), PurePosixPath(top), 2 if kind == "cgroup2" else 1)


def _quota(group: Path) -> float | None:
    """Return the CPUs a group may keep busy, None if there is no limit."""
    both = _lines(group / "cpu.max") or [
        " ".join(_lines(group / "cpu.cfs_quota_us") + _lines(group / "cpu.cfs_period_us"))
    ]
    try:
        quota, period = (int(part) for part in both[0].split())
    except ValueError:  # "max", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
