"""Accounting of the key/value cache: which blocks are free and which sequence holds which.

Owns block numbers only; the memory they stand for is the device's.
"""

from collections import deque


class CacheFullError(Exception):
    """More blocks were asked for than are free; callers ask `can_allocate` first."""


class KVCache:
    """A fixed number of equal blocks, each holding `block_size` tokens of one sequence."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free = deque(range(num_blocks))
        self._tables: dict[int, list[int]] = {}

    @property
    def num_free(self) -> int:
        """Blocks nobody holds."""
        return len(self._free)

    @property
    def usage(self) -> float:
        """Share of the blocks that are held, 0 to 1."""
        return 1 - self.num_free / self.num_blocks

    @property
    def max_tokens(self) -> int:
        """The longest sequence that fits when it is alone."""
        return self.num_blocks * self.block_size

    def blocks_needed(self, sequence_id: int, num_tokens: int) -> int:
        """Return how many more blocks the sequence needs to hold `num_tokens` in all."""
        total = -(-num_tokens // self.block_size)
        return max(0, total - len(self._tables.get(sequence_id, ())))

    def can_allocate(self, sequence_id: int, num_tokens: int) -> bool:
        """Tell whether the sequence can be grown to hold `num_tokens`."""
        return self.blocks_needed(sequence_id, num_tokens) <= self.num_free

    def allocate(self, sequence_id: int, num_tokens: int) -> tuple[int, ...]:
        """Grow the sequence's block table to hold `num_tokens` and return the whole table.

        Raises:
            CacheFullError: too few blocks are free; nothing was taken.
        """
        needed = self.blocks_needed(sequence_id, num_tokens)
        if needed > self.num_free:
            raise CacheFullError(f"{needed} blocks needed, {self.num_free} free")
        table = self._tables.setdefault(sequence_id, [])
        table.extend(self._free.popleft() for _ in range(needed))
        return tuple(table)

    def free(self, sequence_id: int) -> None:
        """Return every block of the sequence; a sequence without blocks is no error."""
        self._free.extend(self._tables.pop(sequence_id, ()))

    def check_integrity(self, holders: set[int]) -> None:
        """Check that every block is free or held exactly once, and held only by `holders`.

        Raises:
            RuntimeError: the accounting is broken.
        """
        blocks = [*self._free, *(block for table in self._tables.values() for block in table)]
        if len(blocks) != self.num_blocks or len(set(blocks)) != self.num_blocks:
            raise RuntimeError("a cache block is lost or held twice")
        if strangers := self._tables.keys() - holders:
            raise RuntimeError(f"finished sequences still hold cache blocks: {sorted(strangers)}")
