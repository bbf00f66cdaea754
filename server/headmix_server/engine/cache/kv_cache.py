"""Accounting of the key/value cache: which sequence holds which blocks, and which prefixes are still there.

Owns each sequence's block table; the memory the numbers stand for is the device's. A block is shared only once it is
full, and rows are computed only behind what was found, so nobody ever writes to a shared block.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from headmix_server.engine.cache.block_keys import BlockKeys, KeyMaker
from headmix_server.engine.cache.block_pool import BlockPool


@dataclass(slots=True)
class _Table:
    """A sequence's blocks in order; the first `num_published` are full and have been offered to others."""

    blocks: list[int] = field(default_factory=list)
    num_published: int = 0


class KVCache:
    """A fixed number of equal blocks, each holding `block_size` tokens.

    With `prefix_cache`, what a sequence has computed can be found by later ones for as long as nobody needs its blocks.
    """

    def __init__(self, num_blocks: int, block_size: int, *, prefix_cache: bool = True) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._key_maker = KeyMaker(block_size) if prefix_cache else None
        self._pool = BlockPool(num_blocks)
        self._tables: dict[int, _Table] = {}

    @property
    def num_free(self) -> int:
        """Blocks nobody holds."""
        return self._pool.num_free

    @property
    def usage(self) -> float:
        """Share of the blocks that are held, 0 to 1; what is kept only to be found again does not count."""
        return 1 - self.num_free / self.num_blocks

    @property
    def max_tokens(self) -> int:
        """The longest sequence that fits when it is alone."""
        return self.num_blocks * self.block_size

    # --- prefixes ------------------------------------------------------------------------------------------------

    def keys_of(self, tenant: str, digest: str | None) -> BlockKeys | None:
        """Return what names a new sequence's blocks, None without a prefix cache."""
        return None if self._key_maker is None else self._key_maker.keys_of(tenant, digest)

    def find_prefix(self, keys: BlockKeys, tokens: Seq[int]) -> list[int]:
        """Return the blocks of the longest prefix that is here; at least the last token is never among them.

        They are good for one `admit` before anything else is asked of this cache.
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
        """Return whether a new sequence of `num_tokens` that begins with these found blocks fits."""
        needed = self._blocks_for(num_tokens) - len(prefix)
        return needed + self._pool.num_idle(prefix) <= self.num_free

    def admit(self, sequence_id: int, num_tokens: int, prefix: Seq[int] = ()) -> None:
        """Give a new sequence its blocks: the found ones, shared, and others for the rest.

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
        """Let others find the sequence's blocks that its `num_computed` tokens have filled."""
        table, full = self._tables[sequence_id], num_computed // self.block_size
        if full <= table.num_published:
            return
        made = keys.at_least(full, tokens)
        for place in range(table.num_published, full):
            self._pool.publish(table.blocks[place], made[place], keys.digest)
        table.num_published = full

    def forget(self, digest: str) -> None:
        """Drop every prefix that was computed with this adapter."""
        self._pool.forget(digest)

    # --- tables --------------------------------------------------------------------------------------------------

    def _blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def can_grow(self, sequence_id: int, num_tokens: int) -> bool:
        """Return whether the sequence can be grown to hold `num_tokens`."""
        missing = self._blocks_for(num_tokens) - len(self._tables[sequence_id].blocks)
        return missing <= 0 or missing <= self.num_free

    def grow(self, sequence_id: int, num_tokens: int) -> Seq[int]:
        """Let the sequence hold at least `num_tokens` and return its table, which only ever grows at its end.

        Raises:
            CacheFullError: too few blocks are free; nothing was taken.
        """
        blocks = self._tables[sequence_id].blocks
        missing = self._blocks_for(num_tokens) - len(blocks)
        if missing > 0:
            blocks.extend(self._pool.take(missing))
        return blocks

    def free(self, sequence_id: int) -> None:
        """Return every block of the sequence; a sequence without blocks is no error.

        The end of a prefix is worthless without its beginning, so the last block is the first to be evicted.
        """
        table = self._tables.pop(sequence_id, None)
        if table is not None:
            self._pool.release(reversed(table.blocks))

    def check_table(self, sequence_id: int, keys: BlockKeys | None, tokens: Seq[int], num_computed: int) -> None:
        """Check one running sequence's blocks: enough of them, those that are full offered, under the right keys.

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
        """Check that every block is free or held exactly as often as it counts, by `holders` alone, and shared if full.

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
