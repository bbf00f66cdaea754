from typing import Literal

import pytest
import torch

from headmix_adapters.reference import pool
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


def test_release_forgets_a_sequence_and_a_restart_begins_afresh() -> None:
    pooled = PooledStates()
    pooled.add(1, torch.ones(2, 3), "mean", first=True)
    pooled.release(1)
    assert len(pooled) == 0
    pooled.add(2, torch.ones(2, 3), "mean", first=True)
    pooled.add(2, torch.full((2, 3), 3.0), "mean", first=True)  # preempted and begun again
    torch.testing.assert_close(pooled.take(2, "mean", 2), torch.full((3,), 3.0))
