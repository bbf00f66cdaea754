"""Cache blocks' reference counts are right, and a cache hit returns what was computed, whatever happens."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headmix_server.engine.cache.block_keys import BlockKeys
from headmix_server.engine.cache.block_pool import CacheFullError
from headmix_server.engine.cache.kv_cache import KVCache

BLOCKS, SIZE = 8, 4
OWNERS = [("t", None), ("t", "sha256:a"), ("u", None), ("u", "sha256:a"), ("u", "sha256:b")]
Place = tuple[int, int]


@dataclass
class Sequence:
    owner: tuple[str, str | None]
    tokens: list[int]
    keys: BlockKeys
    computed: int
    blocks: list[int] = field(default_factory=list)


class KVCacheMachine(RuleBasedStateMachine):
    """Sequences arrive, are computed, grow and end at random. The model is the content of every position of a block."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = KVCache(BLOCKS, SIZE)
        self.running: dict[int, Sequence] = {}
        self.memory: dict[Place, tuple[object, ...]] = {}
        self.admitted = 0

    def content(self, sequence: Sequence, position: int) -> tuple[object, ...]:
        return (*sequence.owner, *sequence.tokens[: position + 1])

    def place(self, sequence: Sequence, position: int) -> Place:
        return sequence.blocks[position // SIZE], position % SIZE

    @rule(owner=st.sampled_from(OWNERS), start=st.integers(0, 1), length=st.integers(1, 22))
    def admit(self, owner: tuple[str, str | None], start: int, length: int) -> None:
        tokens = [start, *range(length - 1)]
        keys = self.cache.keys_of(*owner)
        assert keys is not None
        prefix = self.cache.find_prefix(keys, tokens)
        assert len(prefix) * SIZE < length
        if not self.cache.can_admit(length, prefix):
            free = self.cache.num_free
            with pytest.raises(CacheFullError):
                self.cache.admit(self.admitted, length, prefix)
            assert self.cache.num_free == free
            return
        self.cache.admit(self.admitted, length, prefix)
        sequence = Sequence(owner, tokens, keys, len(prefix) * SIZE)
        sequence.blocks = list(self.cache.grow(self.admitted, length))
        assert sequence.blocks[: len(prefix)] == prefix
        for position in range(sequence.computed):
            assert self.memory[self.place(sequence, position)] == self.content(sequence, position)
        self.running[self.admitted] = sequence
        self.admitted += 1

    @precondition(lambda self: self.running)
    @rule(data=st.data(), count=st.integers(1, 9))
    def compute(self, data: st.DataObject, count: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.running)))
        sequence = self.running[number]
        end = min(sequence.computed + count, len(sequence.tokens))
        for position in range(sequence.computed, end):
            assert Counter(b for s in self.running.values() for b in s.blocks)[self.place(sequence, position)[0]] == 1
            self.memory[self.place(sequence, position)] = self.content(sequence, position)
        sequence.computed = end
        self.cache.publish(number, sequence.keys, sequence.tokens, end)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), count=st.integers(1, 6))
    def extend(self, data: st.DataObject, count: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.running)))
        sequence = self.running[number]
        longer = len(sequence.tokens) + count
        if not self.cache.can_grow(number, longer):
            with pytest.raises(CacheFullError):
                self.cache.grow(number, longer)
            return
        before, sequence.blocks = sequence.blocks, list(self.cache.grow(number, longer))
        assert sequence.blocks[: len(before)] == before
        sequence.tokens += range(count)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.running)))
        self.cache.free(number)
        del self.running[number]

    @rule(digest=st.sampled_from(["sha256:a", "sha256:b"]))
    def forget(self, digest: str) -> None:
        self.cache.forget(digest)
        for tenant in "tu":
            keys = self.cache.keys_of(tenant, digest)
            assert keys is not None
            assert self.cache.find_prefix(keys, [0, *range(21)]) == []

    @invariant()
    def every_block_is_accounted_for(self) -> None:
        self.cache.check_integrity(set(self.running))
        held = {block for sequence in self.running.values() for block in sequence.blocks}
        assert self.cache.num_free == BLOCKS - len(held)
        assert self.cache.usage == len(held) / BLOCKS


TestKVCache = KVCacheMachine.TestCase


def compute(cache: KVCache, number: int, tokens: list[int], tenant: str = "t", digest: str | None = None) -> int:
    """Admit a sequence, compute all of it and return how many tokens were cached already."""
    keys = cache.keys_of(tenant, digest)
    assert keys is not None
    prefix = cache.find_prefix(keys, tokens)
    cache.admit(number, len(tokens), prefix)
    cache.publish(number, keys, tokens, len(tokens))
    return len(prefix) * cache.block_size


def test_the_same_beginning_is_found_again_up_to_the_last_full_block_before_the_last_token() -> None:
    cache = KVCache(16, 4)
    assert compute(cache, 0, list(range(12))) == 0
    assert compute(cache, 1, list(range(12))) == 8
    assert compute(cache, 2, list(range(13))) == 12
    assert compute(cache, 3, [*range(7), 99, *range(8, 12)]) == 4
    assert compute(cache, 4, [99, *range(1, 12)]) == 0


def test_a_prefix_outlives_its_sequence_and_is_there_until_its_blocks_are_needed() -> None:
    cache = KVCache(4, 4)
    compute(cache, 0, list(range(9)))
    cache.free(0)
    assert (cache.num_free, cache.usage) == (4, 0)
    assert compute(cache, 1, list(range(9))) == 8
    cache.free(1)
    compute(cache, 2, list(range(100, 116)))
    cache.free(2)
    assert compute(cache, 3, list(range(9))) == 0


def test_the_end_of_a_prefix_is_given_up_before_its_beginning() -> None:
    cache = KVCache(4, 4)
    compute(cache, 0, list(range(16)))
    cache.free(0)
    compute(cache, 1, [50] * 8)
    cache.free(1)
    assert compute(cache, 2, list(range(12))) == 8


def test_neither_another_tenant_nor_another_adapter_finds_a_prefix() -> None:
    cache = KVCache(32, 4)
    tokens = list(range(9))
    compute(cache, 0, tokens, "t", None)
    assert compute(cache, 1, tokens, "u", None) == 0
    assert compute(cache, 2, tokens, "t", "sha256:a") == 0
    assert compute(cache, 3, tokens, "t", "sha256:b") == 0
    assert compute(cache, 4, tokens, "t", "sha256:a") == 8


def test_a_forgotten_adapters_prefix_is_gone_while_its_running_sequence_keeps_its_blocks() -> None:
    cache = KVCache(16, 4)
    compute(cache, 0, list(range(9)), "t", "sha256:a")
    compute(cache, 1, list(range(9)), "t", None)
    cache.forget("sha256:a")
    assert cache.num_free == 16 - 6
    cache.free(0)
    assert compute(cache, 2, list(range(9)), "t", "sha256:a") == 0
    assert compute(cache, 3, list(range(9)), "t", None) == 8
    cache.check_integrity({1, 2, 3})


def test_without_a_prefix_cache_nothing_is_kept() -> None:
    cache = KVCache(2, 4, prefix_cache=False)
    assert cache.keys_of("t", None) is None
    cache.admit(0, 8)
    cache.free(0)
    assert cache.num_free == 2


def test_a_refused_admission_takes_nothing_and_lets_go_what_it_shared() -> None:
    cache = KVCache(3, 4)
    compute(cache, 0, list(range(8)))
    keys = cache.keys_of("t", None)
    assert keys is not None
    prefix = cache.find_prefix(keys, list(range(16)))
    assert (len(prefix), cache.can_admit(16, prefix)) == (2, False)
    with pytest.raises(CacheFullError, match="2 blocks needed, 1 free"):
        cache.admit(1, 16, prefix)
    cache.check_integrity({0})
    cache.free(0)
    assert not cache.can_admit(16, prefix)


def test_integrity_names_a_sequence_that_kept_its_blocks() -> None:
    cache = KVCache(2, 4)
    cache.admit(7, 1)
    with pytest.raises(RuntimeError, match=r"\[7\]"):
        cache.check_integrity(set())


def test_integrity_sees_a_block_held_uncounted() -> None:
    cache = KVCache(2, 4)
    cache.admit(1, 1)
    cache._tables[2] = cache._tables[1]
    with pytest.raises(RuntimeError, match="more or fewer"):
        cache.check_integrity({1, 2})


def test_integrity_sees_a_shared_block_that_is_not_full() -> None:
    cache = KVCache(2, 4)
    cache.admit(1, 1)
    cache.admit(2, 1, list(cache.grow(1, 1)))
    with pytest.raises(RuntimeError, match="not full"):
        cache.check_integrity({1, 2})


def test_integrity_sees_a_lost_block() -> None:
    cache = KVCache(2, 4)
    cache._pool._blank.pop()
    with pytest.raises(RuntimeError, match="lost"):
        cache.check_integrity(set())
