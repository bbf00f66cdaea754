from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headmix_adapters.config import ClassifierConfig
from headmix_adapters.reference import last_place, pool, pool_text
from headmix_server.device.pooling import PooledStates

POOLINGS: tuple[Literal["last", "cls", "mean"], ...] = ("last", "cls", "mean")


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("cuts", [[7], [1, 6], [3, 3, 1]])
def test_pooling_in_chunks_is_pooling_whole(pooling: Literal["last", "cls", "mean"], cuts: list[int]) -> None:
    states, pooled, start = torch.randn(7, 4), PooledStates(), 0
    for count in cuts:
        pooled.add(1, states[start : start + count], pooling, first=start == 0)
        start += count
    torch.testing.assert_close(pooled.take(1, pooling, 7), pool(states, pooling))
    assert len(pooled) == 0


@given(
    tokens=st.lists(st.sampled_from([0, 0, 5, 6]), min_size=1, max_size=12),
    cuts=st.lists(st.integers(1, 5), max_size=12),
)
def test_padding_at_the_end_is_looked_past_whatever_the_chunks(tokens: list[int], cuts: list[int]) -> None:
    """Including chunks that are only padding, even the first one."""
    head = ClassifierConfig(pooling="last", kind="linear", labels=("a", "b"), pad_token=0)
    states, pooled, start = torch.randn(len(tokens), 4), PooledStates(), 0
    for count in [*cuts, len(tokens)]:
        part = tokens[start : start + count]
        if part:
            rows = states[start : start + len(part)]
            pooled.add(1, rows, "last", first=start == 0, last=last_place(part, 0))
        start += len(part)
    place = max((at for at, token in enumerate(tokens) if token), default=0)
    assert torch.equal(pooled.take(1, "last", len(tokens)), states[place])
    assert torch.equal(pool_text(head, states, tokens), states[place])


def test_release_forgets_a_sequence_and_a_restart_begins_afresh() -> None:
    pooled = PooledStates()
    pooled.add(1, torch.ones(2, 3), "mean", first=True)
    pooled.release(1)
    assert len(pooled) == 0
    pooled.add(2, torch.ones(2, 3), "mean", first=True)
    pooled.add(2, torch.full((2, 3), 3.0), "mean", first=True)  # preempted and restarted
    torch.testing.assert_close(pooled.take(2, "mean", 2), torch.full((3,), 3.0))
