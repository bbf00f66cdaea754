"""The adapter that will be needed last is evicted first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headmix_server.engine.residency.eviction import choose_victim


@given(st.lists(st.sampled_from("abcdef"), min_size=1, unique=True), st.lists(st.sampled_from("abcdef"), unique=True))
def test_the_victim_is_the_oldest_nobody_wants_or_else_the_one_wanted_last(
    candidates: list[str], queue: list[str]
) -> None:
    unwanted = [digest for digest in candidates if digest not in queue]
    expected = unwanted[0] if unwanted else max(candidates, key=queue.index)
    assert choose_victim(candidates, {digest: place for place, digest in enumerate(queue)}) == expected


def test_of_those_wanted_equally_late_the_least_recently_used_leaves() -> None:
    assert choose_victim("abc", {"a": 0, "b": 2, "c": 2}) == "b"


def test_where_there_is_nothing_to_evict_nothing_is_made_up() -> None:
    with pytest.raises(ValueError, match="nothing to evict"):
        choose_victim([], {})
