"""How much more memory this process can use: what the machine has left, and what its control groups allow.

Code that sizes a memory budget at startup asks here. Does not load torch.
"""

import os
from pathlib import Path

from headmix_adapters.control_groups import ROOT, control_groups, read_lines

_UNLIMITED = 1 << 60
"""A v1 control group without a limit reports a number of about this size."""

_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""The files with a group's limit and usage, in both versions."""


def available_memory(root: Path = ROOT) -> int:
    """Return how many bytes the process can allocate before the machine or a limit of its control groups runs out."""
    left = [_left_in(group) for group in control_groups(root, "memory")]
    return max(
        0, min(_left_in_machine(root), *(bytes_left for bytes_left in left if bytes_left is not None), _UNLIMITED)
    )


def _left_in_machine(root: Path) -> int:
    for line in read_lines(root / "proc/meminfo"):
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left_in(group: Path) -> int | None:
    """Return what is left of a group's limit, or None if it has none. Page cache counts as free: it can be dropped."""
    for limit_file, usage_file in _FILES:
        limit, usage = _number(group / limit_file), _number(group / usage_file)
        if limit is not None and usage is not None and limit < _UNLIMITED:
            return limit - usage + _file_pages(group)
    return None


def _file_pages(group: Path) -> int:
    counts = dict(line.split() for line in read_lines(group / "memory.stat") if len(line.split()) == 2)
    return int(counts.get("inactive_file", 0))


def _number(path: Path) -> int | None:
    lines = read_lines(path)
    return int(lines[0]) if lines and lines[0].isdecimal() else None
