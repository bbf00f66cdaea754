"""Accounting of the key/value cache: which sequence holds which blocks, and which prefixes are cached.

Owns each sequence's block table; the device owns the memory behind the block numbers. A block is shared only when it is
full, and rows are computed only after the cached prefix, so nothing ever writes to a shared block.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from headmix_server.core.combination import Combination
from headmix_server.engine.cache.block_keys import BlockKeys, KeyMaker
from headmix_server.engine.cache.block_pool import BlockPool


@dataclass(slots=True)
class _Table:
    """A sequence's blocks in order; the first `num_published` are full and available to others."""

    blocks: list[int] = field(default_factory=list)
    num_published: int = 0


@dataclass(slots=True)
class PrefixCounts:
    """Prompt tokens looked up in the prefix cache, and how many were found, since the counts were last taken."""

    queries: int = 0
    hits: int = 0


class KVCache:
    """A fixed number of equal blocks, each holding `block_size` tokens.

    With `prefix_cache`, later sequences can reuse what a sequence has computed until its blocks are needed for others.
    """

    def __init__(self, num_blocks: int, block_size: int, *, prefix_cache: bool = True) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._key_maker = KeyMaker(block_size) if prefix_cache else None
        self._pool = BlockPool(num_blocks)
        self._tables: dict[int, _Table] = {}

    @property
    def num_free(self) -> int:
        """Number of blocks that nobody holds."""
        return self._pool.num_free

    @property
    def usage(self) -> float:
        """Fraction of the blocks that are held, 0 to 1; blocks kept only as cached prefixes do not count."""
        return 1 - self.num_free / self.num_blocks

    @property
    def max_tokens(self) -> int:
        """The length of the longest sequence that fits when it is the only one."""
        return self.num_blocks * self.block_size

    # --- prefixes ------------------------------------------------------------------------------------------------

    def keys_of(self, tenant: str, combination: Combination) -> BlockKeys | None:
        """Return the block keys of a new sequence, or None without a prefix cache."""
        return None if self._key_maker is None else self._key_maker.keys_of(tenant, combination)

    def find_prefix(self, keys: BlockKeys, tokens: Seq[int]) -> list[int]:
        """Return the blocks of the longest cached prefix; it never includes the last token.

        They are valid for one `admit`, before any other call to this cache.
        """
        blocks = []
        most = (len(tokens) - 1) // self.block_size
        for key in keys.at_least(most, tokens)[:most]:
            block = self._pool.find(key)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def can_admit(self, num_tokens: int, prefix: Seq[int] = ()) -> bool:
        """Return whether a new sequence of `num_tokens` that begins with this cached prefix fits."""
        needed = self._blocks_for(num_tokens) - len(prefix)
        return needed + self._pool.num_idle(prefix) <= self.num_free

    def admit(self, sequence_id: int, num_tokens: int, prefix: Seq[int] = ()) -> None:
        """Allocate the blocks of a new sequence: the cached ones are shared, the others are taken for the rest.

        Raises:
            CacheFullError: too few blocks are free; nothing was taken.
        """
        self._pool.share(prefix)
        try:
            rest = self._pool.take(self._blocks_for(num_tokens) - len(prefix))
        except BaseException:
            self._pool.release(reversed(prefix))
            raise
        self._tables[sequence_id] = _Table([*prefix, *rest], len(prefix))

    def publish(self, sequence_id: int, keys: BlockKeys, tokens: Seq[int], num_computed: int) -> None:
        """Make the sequence's blocks that its `num_computed` tokens have filled available to others."""
        table, full = self._tables[sequence_id], num_computed // self.block_size
        if full <= table.num_published:
            return
        made = keys.at_least(full, tokens)
        for place in range(table.num_published, full):
            self._pool.publish(table.blocks[place], made[place], keys.combination)
        table.num_published = full

    def forget(self, digest: str) -> None:
        """Drop every cached prefix that was computed with this adapter, alone or with others."""
        self._pool.forget(digest)

    # --- tables --------------------------------------------------------------------------------------------------

    def _blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def can_grow(self, sequence_id: int, num_tokens: int) -> bool:
        """Return whether the sequence can be grown to hold `num_tokens`."""
        missing = self._blocks_for(num_tokens) - len(self._tables[sequence_id].blocks)
        return missing <= 0 or missing <= self.num_free

    def grow(self, sequence_id: int, num_tokens: int) -> Seq[int]:
        """Grow the sequence to hold at least `num_tokens` and return its table, which only ever grows at its end.

        Raises:
            CacheFullError: too few blocks are free; nothing was taken.
        """
        blocks = self._tables[sequence_id].blocks
        missing = self._blocks_for(num_tokens) - len(blocks)
        if missing > 0:
            blocks.extend(self._pool.take(missing))
        return blocks

    def free(self, sequence_id: int) -> None:
        """Release every block of the sequence; does nothing if it holds none.

        The end of a prefix is worthless without its beginning, so the last block is the first to be evicted.
        """
        table = self._tables.pop(sequence_id, None)
        if table is not None:
            self._pool.release(reversed(table.blocks))

    def check_table(self, sequence_id: int, keys: BlockKeys | None, tokens: Seq[int], num_computed: int) -> None:
        """Check one running sequence's blocks: there are enough, and the full ones are published under the right keys.

        Raises:
            RuntimeError: the accounting is broken.
        """
        table = self._tables.get(sequence_id)
        if table is None or len(table.blocks) < self._blocks_for(num_computed):
            raise RuntimeError(f"sequence {sequence_id} lacks cache blocks for what it has computed")
        if table.num_published != (0 if keys is None else num_computed // self.block_size):
            raise RuntimeError(f"sequence {sequence_id} has offered more or fewer cache blocks than are full")
        made = [] if keys is None else keys.at_least(table.num_published, tokens)
        for block, key in zip(table.blocks, made[: table.num_published], strict=False):
            if self._pool.key_of(block) not in (
                None,
                key,
            ):  # None: it cannot be found
                raise RuntimeError(f"cache block {block} is found under another's key")

    def check_integrity(self, holders: set[int]) -> None:
        """Check that every block is free or held as often as it counts, only by `holders`, and shared only if full.

        Raises:
            RuntimeError: the accounting is broken.
        """
        tables = self._tables.values()
        self._pool.check_integrity([table.blocks for table in tables])
        full = {block for table in tables for block in table.blocks[: table.num_published]}
        others = [block for table in tables for block in table.blocks[table.num_published :]]
        if len(set(others)) != len(others) or not full.isdisjoint(others):
            raise RuntimeError("a cache block that is not full is held twice")
        if any(len(set(table.blocks)) != len(table.blocks) for table in tables):
            raise RuntimeError("a sequence holds a cache block twice")
        if strangers := self._tables.keys() - holders:
            raise RuntimeError(f"finished sequences still hold cache blocks: {sorted(strangers)}")
