"""Counting the memory of every tensor an object can reach."""

import gc
from types import ModuleType

import torch


def tensor_bytes(root: object) -> int:
    """Return the bytes of all distinct storages reachable from an object; a packed tensor counts as its numbers."""
    seen: set[int] = set()
    storages: dict[int, int] = {}
    waiting = [root]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, type | ModuleType):
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            if item.is_mkldnn:
                storages[id(item)] = item.numel() * item.itemsize
            else:
                storages[item.untyped_storage().data_ptr()] = item.untyped_storage().nbytes()
        elif not callable(item) or hasattr(item, "__slots__"):
            waiting.extend(gc.get_referents(item))
    return sum(storages.values())
