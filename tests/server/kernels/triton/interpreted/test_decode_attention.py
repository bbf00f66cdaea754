"""Triton's decode attention matches torch's on the gathered cache; what must not be read is NaN."""

import pytest
import torch

from headmix_server.kernels.attention.static import ReferenceStaticAttention
from headmix_server.kernels.triton import decode_attention as kernels
from headmix_server.kernels.triton.decode_attention import TritonDecodeAttention

BLOCK, BLOCKS, WIDTH = 4, 24, 8
POSITIONS = [0, 3, 4, 30, 17]
TABLE = [[5], [7], [9, 2], [0, 1, 3, 4, 6, 8, 10, 11], [12, 13, 14, 15, 16]]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that a context has several blocks and several parts."""
    monkeypatch.setattr(kernels, "MOST_POSITIONS", 16)
    monkeypatch.setattr(kernels, "DECODE", {})


def poisoned_cache(groups: int, size: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a cache that is finite at a row's earlier positions and NaN everywhere else."""
    keys, values = (torch.full((BLOCKS * BLOCK, groups, size), float("nan"), dtype=dtype) for _ in range(2))
    for position, blocks in zip(POSITIONS, TABLE, strict=True):
        places = [blocks[at // BLOCK] * BLOCK + at % BLOCK for at in range(position)]
        for part in (keys, values):
            part[places] = torch.randn(len(places), groups, size).to(dtype)
    return keys, values


def finite(cache: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return cache[0].nan_to_num(0.0), cache[1].nan_to_num(0.0)


@pytest.mark.parametrize("window", [None, 1, 6, 16])
@pytest.mark.parametrize(("heads", "groups", "size"), [(4, 4, 16), (6, 2, 20), (4, 1, 8)])
def test_every_row_attends_to_its_own_context_and_nothing_else_is_read(
    heads: int, groups: int, size: int, window: int | None
) -> None:
    torch.manual_seed(0)
    cache = poisoned_cache(groups, size, torch.float32)
    expected_cache = finite(cache)
    states = torch.randn(len(POSITIONS), heads + 2 * groups, size)
    q, k, v = torch.split(states, [heads, groups, groups], dim=1)  # as the model passes them: views of one tensor
    found = TritonDecodeAttention([cache], BLOCK, len(POSITIONS), WIDTH)
    expected = ReferenceStaticAttention([expected_cache], BLOCK, len(POSITIONS), WIDTH)
    outs = []
    for attention in (found, expected):
        attention.fill(POSITIONS, TABLE)
        attention.begin()
        outs.append(attention.attend(0, q, k, v, scale=size**-0.5, window=window))
    torch.testing.assert_close(outs[0], outs[1], atol=1e-5, rtol=1e-5)
    for mine, wanted in zip(finite(cache), expected_cache, strict=True):
        assert torch.equal(mine, wanted)  # the rows' own keys and values, at their positions, and no others


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # numpy's warnings, in the interpreter
def test_a_row_that_is_not_a_number_stays_alone() -> None:
    torch.manual_seed(0)
    cache = poisoned_cache(2, 16, torch.float32)
    q, k, v = (torch.rand(len(POSITIONS), heads, 16) for heads in (4, 2, 2))  # a key of -inf then has weight 0
    q[1], v[2], k[3] = float("nan"), float("inf"), float("-inf")
    q[3] = q[3].abs()  # its own score is minus infinity, like that of a masked position
    attention = TritonDecodeAttention([cache], BLOCK, len(POSITIONS), WIDTH)
    attention.fill(POSITIONS, TABLE)
    attention.begin()
    out = attention.attend(0, q, k, v, scale=0.25, window=None)
    assert out[[0, 4]].isfinite().all()
    assert not out[[1, 2, 3]].isfinite().any()


def test_bfloat16_is_near_float32() -> None:
    torch.manual_seed(0)
    cache = poisoned_cache(2, 16, torch.bfloat16)
    q, k, v = (torch.randn(len(POSITIONS), heads, 16).bfloat16() for heads in (4, 2, 2))
    keys, values = finite(cache)
    expected = ReferenceStaticAttention([(keys.float(), values.float())], BLOCK, len(POSITIONS), WIDTH)
    found = TritonDecodeAttention([cache], BLOCK, len(POSITIONS), WIDTH)
    for attention in (found, expected):
        attention.fill(POSITIONS, TABLE)
        attention.begin()
    out = found.attend(0, q, k, v, scale=0.25, window=None)
    wanted = expected.attend(0, q.float(), k.float(), v.float(), scale=0.25, window=None)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), wanted, atol=3e-2, rtol=3e-2)


def test_what_does_not_fit_its_shape_is_refused() -> None:
    attention = TritonDecodeAttention([poisoned_cache(2, 16, torch.float32)], BLOCK, 2, 4)
    with pytest.raises(ValueError, match="for 2 of 4"):
        attention.fill([0, 30], [[0], list(range(8))])
    gaps = torch.zeros(2, 4, 32)[..., ::2]
    attention.fill([0, 0], [[0], [1]])
    with pytest.raises(ValueError, match="not dense"):
        attention.attend(0, gaps, gaps[:, :2], gaps[:, :2], scale=1.0, window=None)


@pytest.mark.parametrize(("programs", "context", "parts"), [(8, 32, 2), (8, 4096, 16), (1024, 4096, 1), (256, 4096, 4)])
def test_few_rows_with_long_contexts_are_cut_into_more_parts(programs: int, context: int, parts: int) -> None:
    assert kernels._parts(programs, context, positions=16) == parts
