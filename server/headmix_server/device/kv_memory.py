"""The memory of the key/value cache: keys and values for every layer and token place.

`engine.cache.kv_cache` knows which sequence owns which block.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from headmix_server.device.adapters.reserved_memory import reserve
from headmix_server.models.config import ModelConfig

CPU = torch.device("cpu")


def block_bytes(config: ModelConfig, block_size: int, dtype: torch.dtype) -> int:
    """Return the memory of one block over all layers, keys and values, in bytes."""
    per_token = 2 * config.num_layers * config.num_kv_heads * config.head_dim * dtype.itemsize
    return per_token * block_size


class KVMemory:
    """Keys and values of `num_blocks` blocks; on a CPU, a page is taken only when a block is first used."""

    def __init__(
        self,
        config: ModelConfig,
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device = CPU,
    ) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        shape = (config.num_layers, 2, num_blocks * block_size, config.num_kv_heads, config.head_dim)
        if device.type == "cpu":
            states = reserve(prod(shape), dtype, huge_pages=False).numbers.view(shape)
        else:
            states = torch.zeros(shape, dtype=dtype, device=device)
        # [places, G, P] each; nobody reads a place that nobody has written
        self.layers: list[tuple[Tensor, Tensor]] = [(keys, values) for keys, values in states]
        self._states = states

    def clear(self, blocks: Sequence[int], start: int, end: int) -> None:
        """Zero the cache entries of positions `start` up to but not including `end` of a sequence with these blocks."""
        size = self.block_size
        places = [blocks[position // size] * size + position % size for position in range(start, end)]
        self._states.index_fill_(2, torch.tensor(places, device=self._states.device), 0)
