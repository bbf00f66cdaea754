"""A process's resident memory, and the live objects of the server and of torch in this process."""

import gc
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

MIB = 2**20


def resident_mib(pid: int | None = None) -> float:
    """Return a process's resident memory in MiB, by default this one's; reads Linux's /proc."""
    pages = Path(f"/proc/{pid or 'self'}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / MIB


def living_objects() -> Counter[str]:
    """Count live tensors and objects of the server's classes, by class."""
    gc.collect()
    counts: Counter[str] = Counter()
    for thing in gc.get_objects():
        kind = type(thing)
        if str(kind.__module__).startswith("headmix_server") or issubclass(kind, torch.Tensor):
            counts[f"{kind.__module__}.{kind.__qualname__}"] += 1
    return counts


def slope_per_hour(samples: Sequence[tuple[float, float]]) -> float:
    """Return the least-squares slope of (seconds, MiB) samples in MiB per hour; 0 for fewer than two."""
    if len(samples) < 2:
        return 0.0
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return 3600 * sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread if spread else 0.0
