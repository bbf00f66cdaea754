import pytest
import torch
from torch import Tensor

from headmix_server.kernels.attention import Span, paged_attention, plan_attention

HEADS, KV_HEADS, HEAD_DIM, PLACES = 4, 2, 8, 64


def attend_slowly(q: Tensor, keys: Tensor, values: Tensor, spans: list[Span], scale: float) -> Tensor:
    """Attention row by row and head by head, as the textbook has it."""
    out = torch.zeros_like(q)
    for span in spans:
        for offset in range(span.count):
            places = span.places[: span.start + offset + 1]
            for head in range(HEADS):
                group = head // (HEADS // KV_HEADS)
                scores = keys[places, group] @ q[span.row + offset, head] * scale
                out[span.row + offset, head] = scores.softmax(0) @ values[places, group]
    return out


@pytest.mark.parametrize(
    "lengths",
    [[(0, 5)], [(4, 1), (9, 1)], [(3, 1), (3, 1)], [(0, 4), (7, 1), (2, 6), (1, 1), (0, 1)]],
    ids=["one prompt", "decodes of unequal length", "decodes of equal length", "everything at once"],
)
def test_a_ragged_batch_attends_as_row_by_row(lengths: list[tuple[int, int]]) -> None:
    torch.manual_seed(1)
    free, row, spans = torch.randperm(PLACES), 0, []
    for start, count in lengths:
        spans.append(Span(row, count, start, free[: start + count]))
        free, row = free[start + count :], row + count
    keys, values = torch.randn(PLACES, KV_HEADS, HEAD_DIM), torch.randn(PLACES, KV_HEADS, HEAD_DIM)
    q = torch.randn(row, HEADS, HEAD_DIM)
    k, v = torch.randn(row, KV_HEADS, HEAD_DIM), torch.randn(row, KV_HEADS, HEAD_DIM)
    out = paged_attention(q, k, v, (keys, values), plan_attention(spans, torch.float32), scale=0.3)
    written = torch.cat([span.places[span.start :] for span in spans])
    assert torch.equal(keys[written], k)
    assert torch.equal(values[written], v)
    torch.testing.assert_close(out, attend_slowly(q, keys, values, spans, 0.3), atol=1e-5, rtol=1e-5)
