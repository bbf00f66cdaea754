"""A block's key identifies its tokens, all tokens before them and their owner, within this process only."""

from hypothesis import given
from hypothesis import strategies as st

from headmix_server.engine.cache.block_keys import KeyMaker

SIZE = 2
TEXTS = st.lists(st.sampled_from([0, 1, 11, 2**64 - 1]), min_size=SIZE, max_size=4 * SIZE)
OWNERS = st.tuples(st.sampled_from(["t", "u", "t', None"]), st.sampled_from([None, "None", "sha256:a"]))
MAKER = KeyMaker(SIZE)


@given(one=TEXTS, other=TEXTS, owner=OWNERS, other_owner=OWNERS)
def test_keys_are_equal_where_owner_and_everything_up_to_the_block_are_and_nowhere_else(
    one: list[int], other: list[int], owner: tuple[str, str | None], other_owner: tuple[str, str | None]
) -> None:
    ours = MAKER.keys_of(*owner).at_least(len(one) // SIZE, one)
    theirs = MAKER.keys_of(*other_owner).at_least(len(other) // SIZE, other)
    for count, (mine, yours) in enumerate(zip(ours, theirs, strict=False), start=1):
        alike = owner == other_owner and one[: count * SIZE] == other[: count * SIZE]
        assert (mine == yours) == alike


def test_keys_made_as_the_tokens_come_are_those_of_the_whole() -> None:
    tokens = list(range(10))
    growing = MAKER.keys_of("t", None)
    for count in range(6):
        grown = growing.at_least(count, tokens[: count * SIZE])
    assert grown == MAKER.keys_of("t", None).at_least(5, tokens)


def test_another_process_makes_other_keys() -> None:
    ours, theirs = (KeyMaker(SIZE).keys_of("t", None).at_least(1, [1, 2]) for _ in range(2))
    assert ours != theirs
