import pytest
import torch
from torch import Tensor

from headmix_server.kernels.attention import PagedAttention, Span, WholeAttention, paged_attention, plan_attention

HEADS, KV_HEADS, HEAD_DIM, PLACES = 4, 2, 8, 64


def attend_slowly(
    q: Tensor, keys: Tensor, values: Tensor, spans: list[Span], scale: float, window: int | None = None
) -> Tensor:
    """Attention row by row and head by head, as the textbook has it."""
    out = torch.zeros_like(q)
    for span in spans:
        for offset in range(span.count):
            end = span.start + offset + 1
            places = span.places[0 if window is None else max(0, end - window) : end]
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
@pytest.mark.parametrize("window", [None, 1, 3, 5, 6, 100])
def test_a_ragged_batch_attends_as_row_by_row(lengths: list[tuple[int, int]], window: int | None) -> None:
    torch.manual_seed(1)
    free, row, spans = torch.randperm(PLACES), 0, []
    for start, count in lengths:
        spans.append(Span(row, count, start, free[: start + count]))
        free, row = free[start + count :], row + count
    keys, values = torch.randn(PLACES, KV_HEADS, HEAD_DIM), torch.randn(PLACES, KV_HEADS, HEAD_DIM)
    q = torch.randn(row, HEADS, HEAD_DIM)
    k, v = torch.randn(row, KV_HEADS, HEAD_DIM), torch.randn(row, KV_HEADS, HEAD_DIM)
    plan = plan_attention(spans, torch.float32, window)
    out = paged_attention(q, k, v, (keys, values), plan, scale=0.3)
    written = torch.cat([span.places[span.start :] for span in spans])
    assert torch.equal(keys[written], k)
    assert torch.equal(values[written], v)
    torch.testing.assert_close(out, attend_slowly(q, keys, values, spans, 0.3, window), atol=1e-5, rtol=1e-5)


def test_layers_with_and_without_a_window_share_a_step_and_keep_their_own_caches() -> None:
    torch.manual_seed(2)
    spans = [Span(0, 3, 2, torch.arange(5)), Span(3, 1, 7, torch.arange(10, 18))]
    caches = [(torch.randn(20, KV_HEADS, HEAD_DIM), torch.randn(20, KV_HEADS, HEAD_DIM)) for _ in range(2)]
    step = PagedAttention(caches, spans, torch.float32)
    for layer, window in ((0, None), (1, 3)):
        q = torch.randn(4, HEADS, HEAD_DIM)
        k, v = torch.randn(4, KV_HEADS, HEAD_DIM), torch.randn(4, KV_HEADS, HEAD_DIM)
        out = step.attend(layer, q, k, v, scale=0.5, window=window)
        keys, values = caches[layer]
        torch.testing.assert_close(out, attend_slowly(q, keys, values, spans, 0.5, window), atol=1e-5, rtol=1e-5)


def test_whole_texts_attend_in_both_directions_and_never_to_each_other() -> None:
    torch.manual_seed(3)
    texts = [slice(0, 4), slice(4, 5), slice(5, 12)]
    q = torch.randn(12, HEADS, HEAD_DIM)
    k, v = torch.randn(12, KV_HEADS, HEAD_DIM), torch.randn(12, KV_HEADS, HEAD_DIM)
    expected = torch.zeros_like(q)
    for rows in texts:
        for head in range(HEADS):
            group = head // (HEADS // KV_HEADS)
            expected[rows, head] = (q[rows, head] @ k[rows, group].T * 0.3).softmax(-1) @ v[rows, group]
    attention = WholeAttention(texts)
    torch.testing.assert_close(attention.attend(0, q, k, v, scale=0.3, window=None), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="no window"):
        attention.attend(0, q, k, v, scale=0.3, window=4)
