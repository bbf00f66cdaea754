"""Every attention implementation computes the textbook definition, on any ragged batch."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headmix_server.kernels.attention.backend import NATIVE, TORCH, AttentionBackend, choose_attention
from headmix_server.kernels.attention.step_layout import BlockTable, StepLayout
from headmix_server.kernels.native.build import find_compiler
from headmix_server.kernels.native.loading import load_native
from tests.support.device.spans import Chunk, paged, whole_texts

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler on this machine")
BACKENDS = [pytest.param(TORCH, id="torch"), pytest.param(NATIVE, id="native", marks=needs_compiler)]
Cache = tuple[Tensor, Tensor]


@pytest.fixture(autouse=True, scope="module")
def native() -> None:
    assert load_native() == (find_compiler() is not None)


@dataclass(frozen=True, slots=True)
class Shape:
    heads: int
    kv_heads: int
    size: int
    block_size: int = 4

    def cache(self, blocks: int) -> Cache:
        shape = (blocks * self.block_size, self.kv_heads, self.size)
        return torch.randn(shape), torch.randn(shape)

    def projections(self, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return q, k and v as views of one fused tensor, as in a model."""
        fused = torch.randn(tokens, self.heads + 2 * self.kv_heads, self.size)
        return fused[:, : self.heads], fused[:, self.heads : -self.kv_heads], fused[:, -self.kv_heads :]


SMALL = Shape(heads=4, kv_heads=2, size=8)


def attend_slowly(q: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Return one row's attention [H, P] to keys [context, G, P], head by head, as in the textbook."""
    group = q.shape[0] // keys.shape[1]
    weights = [(keys[:, head // group] @ q[head] * scale).softmax(0) for head in range(q.shape[0])]
    return torch.stack([weight @ values[:, head // group] for head, weight in enumerate(weights)])


def attend_paged_slowly(
    q: Tensor, cache: Cache, layout: StepLayout, table: BlockTable, scale: float, window: int | None
) -> Tensor:
    out, rows = torch.empty(q.shape), layout.rows.tolist()
    for sequence, start in enumerate(layout.starts.tolist()):
        for offset, row in enumerate(range(rows[sequence], rows[sequence + 1])):
            end = start + offset + 1
            places = table.places(sequence, end)[0 if window is None else max(0, end - window) :]
            out[row] = attend_slowly(q[row], cache[0][places], cache[1][places], scale)
    return out


def chunks_of(lengths: list[tuple[int, int]], shape: Shape, spare: int = 3) -> tuple[list[Chunk], int]:
    """Give each (start, count) its own blocks, scattered over the cache; also return the cache's blocks."""
    needed = [-(-(start + count) // shape.block_size) for start, count in lengths]
    blocks = torch.randperm(sum(needed) + spare).tolist()
    chunks = []
    for (start, count), own in zip(lengths, needed, strict=True):
        chunks.append(Chunk(start, count, tuple(blocks[:own])))
        del blocks[:own]
    return chunks, sum(needed) + spare


def check_paged(backend: AttentionBackend, shape: Shape, chunks: list[Chunk], blocks: int, window: int | None) -> None:
    layout, table = paged(chunks, shape.block_size, blocks)
    cache = shape.cache(blocks)
    before = (cache[0].clone(), cache[1].clone())
    q, k, v = shape.projections(int(layout.rows[-1]))
    out = backend.paged([cache], layout, table).attend(0, q, k, v, scale=0.3, window=window)
    written = torch.cat([table.places(i, c.start + c.count)[c.start :] for i, c in enumerate(chunks)])
    for kept, own, states in zip(before, (k, v), cache, strict=True):
        kept[written] = own
        assert torch.equal(states, kept), "exactly the rows' own places are written"
    assert out.is_contiguous()
    expected = attend_paged_slowly(q, cache, layout, table, 0.3, window)
    torch.testing.assert_close(out, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "lengths",
    [
        [(0, 5)],
        [(4, 1), (9, 1)],
        [(3, 1), (3, 1)],
        [(0, 4), (7, 1), (2, 6), (1, 1), (0, 1)],
        [(0, 1)],
        [(0, 2)],
        [(1100, 1), (0, 1), (511, 1), (512, 1)],
        [(70, 90), (0, 65)],
    ],
    ids=[
        *("one prompt", "decodes of unequal length", "decodes of equal length", "everything at once"),
        *("one token", "two tokens", "long contexts", "chunks over many tiles"),
    ],
)
@pytest.mark.parametrize("window", [None, 1, 3, 5, 6, 100])
def test_a_ragged_batch_attends_as_row_by_row(
    backend: AttentionBackend, lengths: list[tuple[int, int]], window: int | None
) -> None:
    torch.manual_seed(1)
    check_paged(backend, SMALL, *chunks_of(lengths, SMALL), window)


SHAPES = st.builds(
    lambda kv_heads, group, size, block_size: Shape(kv_heads * group, kv_heads, size, block_size),
    st.integers(1, 3),
    st.sampled_from([1, 2, 3, 5, 7, 8]),
    st.sampled_from([1, 8, 16, 20, 32, 64, 80, 128]),
    st.sampled_from([1, 2, 4, 16]),
)
LENGTHS = st.lists(st.tuples(st.integers(0, 150), st.one_of(st.just(1), st.integers(1, 80))), min_size=1, max_size=5)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, lengths=LENGTHS, window=st.none() | st.integers(1, 200), seed=st.integers(0, 9))
def test_any_shape_any_lengths_any_window(
    backend: AttentionBackend, shape: Shape, lengths: list[tuple[int, int]], window: int | None, seed: int
) -> None:
    torch.manual_seed(seed)
    check_paged(backend, shape, *chunks_of(lengths, shape), window)


@pytest.mark.parametrize("backend", BACKENDS)
def test_sequences_may_share_the_blocks_of_a_common_beginning(backend: AttentionBackend) -> None:
    torch.manual_seed(2)
    chunks = [Chunk(8, 1, (5, 2, 7)), Chunk(8, 3, (5, 2, 0)), Chunk(4, 9, (5, 6, 1, 3))]
    check_paged(backend, SMALL, chunks, 8, None)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_prompt_in_chunks_attends_as_in_one_piece(backend: AttentionBackend) -> None:
    torch.manual_seed(3)
    q, k, v = SMALL.projections(40)
    blocks = tuple(torch.randperm(10).tolist())
    results = []
    for counts in ([40], [7, 1, 20, 12]):
        cache, parts, start = SMALL.cache(10), [], 0
        for count in counts:
            layout, table = paged([Chunk(start, count, blocks)], SMALL.block_size, 10)
            own = slice(start, start + count)
            step = backend.paged([cache], layout, table)
            parts.append(step.attend(0, q[own], k[own], v[own], scale=0.5, window=None))
            start += count
        results.append(torch.cat(parts))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_layers_with_and_without_a_window_share_a_step_and_keep_their_own_caches(backend: AttentionBackend) -> None:
    torch.manual_seed(4)
    layout, table = paged([Chunk(2, 3, (0, 1)), Chunk(7, 1, (3, 2))], 4, 5)
    caches = [SMALL.cache(5) for _ in range(2)]
    step = backend.paged(caches, layout, table)
    for layer, window in ((0, None), (1, 3)):
        q, k, v = SMALL.projections(4)
        out = step.attend(layer, q, k, v, scale=0.5, window=window)
        expected = attend_paged_slowly(q, caches[layer], layout, table, 0.5, window)
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_sequences_broken_numbers_stay_its_own(backend: AttentionBackend) -> None:
    torch.manual_seed(5)
    chunks, blocks = chunks_of([(5, 1), (6, 1), (0, 9)], SMALL)
    layout, table = paged(chunks, 4, blocks)
    q, k, v = SMALL.projections(11)
    k[0] = torch.nan
    out = backend.paged([SMALL.cache(blocks)], layout, table).attend(0, q, k, v, scale=1.0, window=None)
    assert out[0].isnan().all()
    assert out[1:].isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_far_apart_neither_overflow_nor_vanish(backend: AttentionBackend) -> None:
    torch.manual_seed(6)
    layout, table = paged([Chunk(0, 70, range(18)), Chunk(90, 1, range(18, 41))], 4, 41)
    q, k, v = SMALL.projections(71)
    cache = SMALL.cache(41)
    out = backend.paged([cache], layout, table).attend(0, q * 100, k, v, scale=1.0, window=None)
    expected = attend_paged_slowly(q * 100, cache, layout, table, 1.0, None)
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, lengths=st.lists(st.integers(1, 90), min_size=1, max_size=6), seed=st.integers(0, 9))
def test_whole_texts_attend_in_both_directions_and_never_to_each_other(
    backend: AttentionBackend, shape: Shape, lengths: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    q, k, v = shape.projections(sum(lengths))
    out = backend.whole(whole_texts(lengths)).attend(0, q, k, v, scale=0.3, window=None)
    texts = zip(*(states.split_with_sizes(lengths) for states in (q, k, v)), strict=True)
    expected = torch.cat([torch.stack([attend_slowly(row, tk, tv, 0.3) for row in tq]) for tq, tk, tv in texts])
    torch.testing.assert_close(out, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_window_in_both_directions_is_refused(backend: AttentionBackend) -> None:
    q, k, v = SMALL.projections(3)
    with pytest.raises(ValueError, match="no window"):
        backend.whole(whole_texts([3])).attend(0, q, k, v, scale=0.3, window=4)


@needs_compiler
def test_a_result_does_not_depend_on_the_rest_of_the_batch_or_on_threads() -> None:
    torch.manual_seed(7)
    chunks, blocks = chunks_of([(900, 1), (30, 1), (0, 50), (600, 1)], SMALL)
    layout, table = paged(chunks, 4, blocks)
    q, k, v = SMALL.projections(53)
    cache = SMALL.cache(blocks)
    threads, outs = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            outs.append(NATIVE.paged([cache], layout, table).attend(0, q, k, v, scale=0.3, window=None))
    finally:
        torch.set_num_threads(threads)
    alone = NATIVE.paged([cache], *paged([chunks[3]], 4, blocks))
    outs.append(torch.cat((outs[0][:52], alone.attend(0, q[52:], k[52:], v[52:], scale=0.3, window=None))))
    assert all(torch.equal(out, outs[0]) for out in outs)


def faulty_calls() -> dict[str, tuple[Tensor, ...]]:
    """Return arguments of attend_paged, each wrong in one way, by what the error must say."""
    layout, table = paged([Chunk(3, 1, (0,)), Chunk(0, 3, (2,))], 4, 3)
    q, k, v = SMALL.projections(4)
    good = {"q": q, "k": k, "v": v, "keys": torch.zeros(12, 2, 8), "values": torch.zeros(12, 2, 8)}
    good |= {"rows": layout.rows, "starts": layout.starts, "blocks": table.blocks}
    wrong: dict[str, dict[str, Tensor]] = {
        "q must be a float32": {"q": q.double()},
        "q must have its heads side by side": {"q": torch.randn(4, 8, 4).transpose(1, 2)},
        "k must be a float32": {"k": k.flatten(1)},
        "the same rows": {"v": v[:3]},
        "heads must be of one size": {"k": k[..., :4].contiguous()},
        "cannot share": {"q": torch.randn(4, 3, 8)},
        "as many keys as values": {"values": torch.zeros(8, 2, 8)},
        "cover the 4 rows": {"rows": torch.tensor([0, 1, 3], dtype=torch.int32)},
        "has no row": {"rows": torch.tensor([0, 0, 4], dtype=torch.int32)},
        "rows must be a contiguous int32": {"rows": layout.rows.long()},
        "differ in sequences": {"starts": layout.starts[:1]},
        "starts at -1": {"starts": torch.tensor([3, -1], dtype=torch.int32)},
        "needs 2 blocks and has 1": {"starts": torch.tensor([3, 2], dtype=torch.int32)},
        "names block 3 of 3": {"blocks": torch.tensor([[0], [3]], dtype=torch.int32)},
        "names block -1 of 3": {"blocks": torch.tensor([[-1], [2]], dtype=torch.int32)},
    }
    return {reason: tuple((good | change).values()) for reason, change in wrong.items()}


@needs_compiler
@pytest.mark.parametrize("reason", faulty_calls())
def test_what_points_outside_or_has_another_shape_is_refused_with_nothing_written(reason: str) -> None:
    arguments = faulty_calls()[reason]
    with pytest.raises(RuntimeError, match=reason):
        torch.ops.headmix.attend_paged(*arguments, 4, 0.3, 0, torch.empty(4, arguments[0].shape[1], 8))
    assert not arguments[3].any()
    assert not arguments[4].any()


def test_other_precisions_and_devices_run_on_torch() -> None:
    cpu = torch.device("cpu")
    assert choose_attention(cpu, torch.bfloat16) is TORCH
    assert choose_attention(torch.device("cuda"), torch.float32) is TORCH
    assert choose_attention(cpu, torch.float32) is (NATIVE if find_compiler() else TORCH)
