"""Cache blocks are free or held exactly once, whatever happens."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headmix_server.engine.kv_cache import CacheFullError, KVCache

SEQUENCES = st.integers(0, 4)


class KVCacheMachine(RuleBasedStateMachine):
    """Sequences grow and go at random; the model is how many tokens each holds."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = KVCache(8, 4)
        self.tables: dict[int, tuple[int, ...]] = {}

    @rule(sequence=SEQUENCES, tokens=st.integers(0, 40))
    def allocate(self, sequence: int, tokens: int) -> None:
        before = self.tables.get(sequence, ())
        if not self.cache.can_allocate(sequence, tokens):
            with pytest.raises(CacheFullError):
                self.cache.allocate(sequence, tokens)
            return
        table = self.cache.allocate(sequence, tokens)
        assert table[: len(before)] == before
        assert len(table) == max(len(before), -(-tokens // 4))
        self.tables[sequence] = table

    @rule(sequence=SEQUENCES)
    def free(self, sequence: int) -> None:
        self.cache.free(sequence)
        self.tables.pop(sequence, None)

    @invariant()
    def every_block_is_accounted_for(self) -> None:
        self.cache.check_integrity(set(self.tables))
        held = [block for table in self.tables.values() for block in table]
        assert len(set(held)) == len(held)
        assert self.cache.num_free == 8 - len(held)
        assert self.cache.usage == len(held) / 8


TestKVCache = KVCacheMachine.TestCase


def test_a_refused_allocation_takes_nothing() -> None:
    cache = KVCache(2, 4)
    with pytest.raises(CacheFullError, match="3 blocks needed, 2 free"):
        cache.allocate(1, 9)
    assert cache.num_free == 2


def test_integrity_names_a_sequence_that_kept_its_blocks() -> None:
    cache = KVCache(2, 4)
    cache.allocate(7, 1)
    with pytest.raises(RuntimeError, match=r"\[7\]"):
        cache.check_integrity(set())


def test_integrity_sees_a_block_held_twice() -> None:
    cache = KVCache(2, 4)
    cache.allocate(1, 1)
    cache._tables[2] = list(cache._tables[1])
    with pytest.raises(RuntimeError, match="held twice"):
        cache.check_integrity({1, 2})
