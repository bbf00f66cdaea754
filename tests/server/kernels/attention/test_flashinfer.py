"""FlashInfer's inputs, compared with torch's attention: a stand-in computes only from the plan, as documented."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from headmix_server.kernels.attention.flashinfer import FlashInferAttention
from headmix_server.kernels.attention.static import ReferenceStaticAttention
from headmix_server.kernels.attention.step_layout import lay_out, tabulate_blocks
from tests.support.device.fake_flashinfer import Wrapper

H, G, P, PAGE, PAGES = 4, 2, 8, 4, 12


@dataclass
class Rows:
    start: int
    count: int
    blocks: list[int]


def make_caches() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(PAGES * PAGE, G, P), torch.randn(PAGES * PAGE, G, P)) for _ in range(2)]


def copies(caches: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    return [(keys.clone(), values.clone()) for keys, values in caches]


def project(rows: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(rows, H, P), torch.randn(rows, G, P), torch.randn(rows, G, P)


@pytest.mark.parametrize("window", [None, 3])
def test_a_ragged_step_attends_as_every_sequence_alone(window: int | None) -> None:
    spans = [Rows(5, 1, [3, 7, 9]), Rows(0, 6, [1, 2]), Rows(4, 3, [5, 6])]
    caches = make_caches()
    alone = copies(caches)
    q, k, v = project(10)
    made: list[Wrapper] = []

    def make(kind: tuple[float, int | None]) -> Wrapper:
        assert kind == (0.3, window)
        made.append(Wrapper())
        return made[-1]

    attention = FlashInferAttention(make, caches, lay_out(spans), tabulate_blocks(spans, PAGE, PAGES))
    for layer in range(2):
        found = attention.attend(layer, q, k, v, scale=0.3, window=window)
        row = 0
        for span in spans:
            for at in range(span.start, span.start + span.count):  # one row at a time, by the static gather
                single = ReferenceStaticAttention(alone, PAGE, 1, 3)
                single.fill([at], [span.blocks])
                single.begin()
                here = slice(row, row + 1)
                expected = single.attend(layer, q[here], k[here], v[here], scale=0.3, window=window)
                torch.testing.assert_close(found[here], expected)
                row += 1
    assert len(made) == 1
    assert made[0].plans == 1  # one plan per step for all layers of one kind
    for mine, theirs in zip(caches, alone, strict=True):
        assert mine[0].equal(theirs[0])
        assert mine[1].equal(theirs[1])
