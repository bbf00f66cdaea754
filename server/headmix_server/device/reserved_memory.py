"""Tensors in memory that is promised but not yet taken: the system gives a page when it is first written.

So a growing store can claim room for all it may ever hold and need not move when it grows. Knows nothing of contents.
"""

import mmap

import torch
from torch import Tensor

from headmix_server.core.logging import get_logger

_PRIVATE = ("MAP_PRIVATE", "MAP_ANONYMOUS", "MAP_NORESERVE")


def reserve(numel: int, dtype: torch.dtype) -> Tensor:
    """Return a flat CPU tensor whose untouched pages cost nothing; its contents mean nothing until written.

    Raises:
        OSError, RuntimeError: the system does not have so much address space for us.
    """
    flags = [getattr(mmap, name, None) for name in _PRIVATE]
    if None in flags:
        return torch.empty(numel, dtype=dtype)
    memory = mmap.mmap(-1, numel * dtype.itemsize, flags=sum(flag for flag in flags if flag is not None))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        _advise_huge_pages(memory)
    return torch.frombuffer(memory, dtype=dtype)  # keeps the mapping alive


def _advise_huge_pages(memory: mmap.mmap) -> None:
    """Ask for large pages: a first write of some megabytes then faults a few times instead of thousands."""
    try:
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError as error:  # a kernel built without them; small pages do the same, slower
        get_logger("memory").debug("no huge pages", reason=str(error))
