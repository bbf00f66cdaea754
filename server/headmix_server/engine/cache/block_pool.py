"""Which cache blocks are free, which are held and by how many sequences, and which hold tokens that can be reused.

Owns block numbers, reference counts and the index from keys to blocks. `block_keys` defines the keys; `kv_cache` knows
which sequence holds which blocks.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable

from headmix_server.core.combination import Combination, digests_of


class CacheFullError(Exception):
    """More blocks were requested than are free; callers must check first."""


class BlockPool:
    """A fixed number of blocks, each blank (free, no content), idle (free, content reusable) or held (by one or more).

    A block has a key for as long as it can be looked up. An idle block keeps its key until it is taken for something
    else: blank blocks are taken first, then the least recently released one.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._blank = list(range(num_blocks - 1, -1, -1))  # a stack: recently used memory is reused first
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._holders = [0] * num_blocks
        self._by_key: dict[bytes, int] = {}
        self._labels: dict[int, tuple[bytes, Combination]] = {}
        self._by_adapters: dict[Combination, set[int]] = {}

    @property
    def num_free(self) -> int:
        """Number of blocks that nobody holds."""
        return len(self._blank) + len(self._idle)

    # --- holding -------------------------------------------------------------------------------------------------

    def take(self, count: int) -> list[int]:
        """Hold `count` blocks without content.

        Raises:
            CacheFullError: too few are free; nothing was taken.
        """
        if count > self.num_free:
            raise CacheFullError(f"{count} blocks needed, {self.num_free} free")
        blocks = []
        for _ in range(count):
            block = self._blank.pop() if self._blank else self._evict()
            self._holders[block] = 1
            blocks.append(block)
        return blocks

    def _evict(self) -> int:
        block, _ = self._idle.popitem(last=False)
        self._unlabel(block)
        return block

    def share(self, blocks: Iterable[int]) -> None:
        """Hold blocks returned by `find`, in addition to their current holders."""
        for block in blocks:
            if self._holders[block] == 0:
                del self._idle[block]
            self._holders[block] += 1

    def num_idle(self, blocks: Iterable[int]) -> int:
        """Count how many of these blocks are free and would stop being free once shared."""
        return sum(self._holders[block] == 0 for block in blocks)

    def release(self, blocks: Iterable[int]) -> None:
        """Release one hold on each block, in the order in which they should be evicted."""
        for block in blocks:
            self._holders[block] -= 1
            if self._holders[block] == 0:
                self._set_free(block)

    def _set_free(self, block: int) -> None:
        if block in self._labels:
            self._idle[block] = None
        else:
            self._blank.append(block)

    # --- keys ----------------------------------------------------------------------------------------------------

    def publish(self, block: int, key: bytes, combination: Combination) -> None:
        """Make a full block available by its key, unless a block with the same key already is."""
        if key not in self._by_key:
            self._by_key[key] = block
            self._labels[block] = key, combination
            self._by_adapters.setdefault(combination, set()).add(block)

    def find(self, key: bytes) -> int | None:
        """Return the block with this key, held or idle, or None."""
        return self._by_key.get(key)

    def key_of(self, block: int) -> bytes | None:
        """Return the key that a block can be found by, or None if it cannot be found."""
        label = self._labels.get(block)
        return None if label is None else label[0]

    def forget(self, digest: str) -> None:
        """Make all blocks that were computed with this adapter, alone or with others, impossible to find."""
        theirs = [blocks for combination, blocks in self._by_adapters.items() if digest in digests_of(combination)]
        for block in [block for blocks in theirs for block in blocks]:
            self._unlabel(block)
            if block in self._idle:
                del self._idle[block]
                self._blank.append(block)

    def _unlabel(self, block: int) -> None:
        key, combination = self._labels.pop(block)
        del self._by_key[key]
        self._by_adapters[combination].discard(block)
        if not self._by_adapters[combination]:
            del self._by_adapters[combination]

    # --- state ---------------------------------------------------------------------------------------------------

    def check_integrity(self, tables: Iterable[Iterable[int]]) -> None:
        """Check that every block is blank, idle, or held by as many of these tables as its reference count says.

        Raises:
            RuntimeError: the accounting is broken.
        """
        holders = Counter(block for table in tables for block in table)
        if [holders[block] for block in range(self.num_blocks)] != self._holders:
            raise RuntimeError("a cache block is held by more or fewer sequences than it counts")
        free = sorted([*self._blank, *self._idle])
        if free != [block for block in range(self.num_blocks) if not holders[block]]:
            raise RuntimeError("a cache block is lost, or free twice, or free and held")
        if not self._idle.keys() <= self._labels.keys() or not self._labels.keys().isdisjoint(self._blank):
            raise RuntimeError("an idle cache block has no key, or a blank one has")
        if {block: key for key, block in self._by_key.items()} != {b: key for b, (key, _) in self._labels.items()}:
            raise RuntimeError("the index of cache blocks does not match their keys")
        by_adapters = {(combination, block) for combination, blocks in self._by_adapters.items() for block in blocks}
        if by_adapters != {(combination, block) for block, (_, combination) in self._labels.items()}:
            raise RuntimeError("the cache blocks of an adapter are not those with its keys")
