"""Tensors in memory that is reserved but not yet taken: the system provides a page, zeroed, when it is first written.

So a growing store can reserve room for all it may ever hold and need not move when it grows. Knows nothing of contents.
"""

import mmap
import platform
import sys
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from headmix_server.core.observability.logging import get_logger

_LINUX_NORESERVE = MappingProxyType(
    {"x86_64": 0x4000, "aarch64": 0x4000, "riscv64": 0x4000, "s390x": 0x4000, "ppc64le": 0x40}
)
"""MAP_NORESERVE as defined in the kernel's headers; Python has the name only from 3.13 on."""


@dataclass(frozen=True, slots=True)
class ReservedMemory:
    """A flat CPU tensor of zeros whose untouched pages cost nothing, and the mapping behind it, if there is one."""

    numbers: Tensor
    _mapping: mmap.mmap | None = None

    def give_back(self, start: int, stop: int) -> None:
        """Return the whole pages between two numbers to the system; they are zeros when next touched.

        Systems that cannot take pages back keep them.
        """
        advice = getattr(mmap, "MADV_DONTNEED", None)
        if self._mapping is None or advice is None:
            return
        first = -(-start * self.numbers.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE
        end = stop * self.numbers.itemsize // mmap.PAGESIZE * mmap.PAGESIZE
        if end > first:
            self._mapping.madvise(advice, first, end - first)


def reserve(numel: int, dtype: torch.dtype, *, huge_pages: bool = True) -> ReservedMemory:
    """Return memory for `numel` numbers, none of which is taken yet.

    With `huge_pages`, a first write of several megabytes faults a few times instead of thousands; for a few bytes here
    and there, small pages are cheaper.

    Raises:
        OSError, RuntimeError: the system does not grant that much address space.
    """
    if numel == 0:  # a mapping cannot be empty
        return ReservedMemory(torch.empty(0, dtype=dtype))
    log = get_logger("memory").bind(mib=numel * dtype.itemsize // 2**20)
    anonymous = getattr(mmap, "MAP_ANONYMOUS", None)
    if anonymous is None:
        log.info("memory taken at once: this system has no private mappings")
        return ReservedMemory(torch.zeros(numel, dtype=dtype))
    noreserve = noreserve_flag()
    memory = mmap.mmap(-1, numel * dtype.itemsize, flags=mmap.MAP_PRIVATE | anonymous | noreserve)
    refused = _advise_huge_pages(memory) if huge_pages else "not asked for"
    log.info("memory reserved", noreserve=bool(noreserve), huge_pages=refused or True)
    return ReservedMemory(torch.frombuffer(memory, dtype=dtype), memory)  # the tensor keeps the mapping alive too


def noreserve_flag() -> int:
    """Return the flag that exempts a mapping from the system's accounting of committed memory; 0 if it is unknown."""
    named = getattr(mmap, "MAP_NORESERVE", None)
    if named is not None:
        return int(named)
    return _LINUX_NORESERVE.get(platform.machine(), 0) if sys.platform == "linux" else 0


def _advise_huge_pages(memory: mmap.mmap) -> str:
    """Request huge pages; return why there are none, empty if the request was accepted. Small pages work the same."""
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None:
        return "this system has none to ask for"
    try:
        memory.madvise(advice)
    except OSError as error:
        return str(error)
    return ""
