"""Attention never reads what a row must not read: unwritten positions, and other sequences' positions and rows.

A masked number is still a factor: 0 times NaN is NaN. So everything out of bounds is filled with values that would
show.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from headmix_server.kernels.attention.backend import NATIVE, TORCH
from headmix_server.kernels.attention.flashinfer import FlashInferAttention
from headmix_server.kernels.attention.static import ReferenceStaticAttention, StaticAttention
from headmix_server.kernels.attention.torch_sdpa import StepAttention
from headmix_server.kernels.native.build import find_compiler
from headmix_server.kernels.native.loading import load_native
from tests.support.device.fake_flashinfer import Wrapper
from tests.support.device.spans import Chunk, paged, whole_texts

BLOCK, BLOCKS, LONGEST = 4, 40, 12
H, G, P = 4, 2, 8
SCALE = 0.3
POISONS = (math.nan, math.inf, -math.inf)

MIXED = (Chunk(5, 1, (3, 7)), Chunk(0, 6, (1, 2)), Chunk(14, 1, (9, 4, 11, 6)), Chunk(4, 9, (5, 8, 10, 12)))
"""Block ends that were never written, contexts of unequal length, and block 0 belongs to no sequence."""
DECODES = (Chunk(5, 1, (3, 7)), Chunk(0, 1, (1,)), Chunk(14, 1, (9, 4, 11, 6)), Chunk(7, 1, (5, 8)))
EQUAL = (Chunk(5, 1, (3, 7)), Chunk(5, 1, (9, 4)), Chunk(5, 1, (5, 8)))

Caches = Sequence[tuple[Tensor, Tensor]]
Make = Callable[[Caches, Sequence[Chunk]], StepAttention]


def begun(attention: StaticAttention, chunks: Sequence[Chunk]) -> StaticAttention:
    attention.fill([chunk.start for chunk in chunks], [chunk.blocks for chunk in chunks])
    attention.begin()
    return attention


PATHS: dict[str, Make] = {
    "torch": lambda caches, chunks: TORCH.paged(caches, *paged(chunks, BLOCK, BLOCKS)),
    "native": lambda caches, chunks: NATIVE.paged(caches, *paged(chunks, BLOCK, BLOCKS)),
    "gather": lambda caches, chunks: begun(ReferenceStaticAttention(caches, BLOCK, len(chunks), LONGEST), chunks),
    "flashinfer": lambda caches, chunks: FlashInferAttention(
        lambda kind: Wrapper(), caches, *paged(chunks, BLOCK, BLOCKS)
    ),
}
DECODE_ONLY = {"gather"}


@dataclass(frozen=True)
class Case:
    path: str
    dtype: torch.dtype
    chunks: tuple[Chunk, ...]

    def cache(self, elsewhere: float) -> Caches:
        """Return a cache with numbers where the sequences have written, and `elsewhere` in all other positions."""
        drawn = torch.Generator().manual_seed(1)
        sides = [torch.randn(BLOCKS * BLOCK, G, P, generator=drawn).to(self.dtype) for _ in range(2)]
        _, table = paged(self.chunks, BLOCK, BLOCKS)
        written = torch.cat([table.places(i, chunk.start) for i, chunk in enumerate(self.chunks)])
        outside = torch.ones(BLOCKS * BLOCK, dtype=torch.bool).index_fill_(0, written, False)
        for side in sides:
            side[outside] = elsewhere
        return [(sides[0], sides[1])]

    def states(self) -> tuple[Tensor, Tensor, Tensor]:
        drawn = torch.Generator().manual_seed(2)
        rows = sum(chunk.count for chunk in self.chunks)
        fused = torch.randn(rows, H + 2 * G, P, generator=drawn).to(self.dtype)
        return fused[:, :H], fused[:, H : H + G], fused[:, H + G :]

    def attend(self, caches: Caches, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        step = PATHS[self.path](caches, self.chunks)
        return step.attend(0, q, k, v, scale=SCALE, window=window)

    def rows(self, sequence: int) -> slice:
        first = sum(chunk.count for chunk in self.chunks[:sequence])
        return slice(first, first + self.chunks[sequence].count)


def cases() -> list[object]:
    listed: list[object] = []
    steps = {"mixed": MIXED, "decodes": DECODES, "decodes of equal length": EQUAL}
    for path in PATHS:
        for dtype in (torch.float32, torch.bfloat16):
            if path == "native" and dtype != torch.float32:
                continue
            for name, chunks in steps.items():
                if path in DECODE_ONLY and name == "mixed":
                    continue
                skip = [pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler")] * (path == "native")
                words = f"{path}, {str(dtype).removeprefix('torch.')}, {name}"
                listed.append(pytest.param(Case(path, dtype, chunks), id=words, marks=skip))
    return listed


@pytest.fixture(autouse=True, scope="module")
def native() -> None:
    assert load_native() == (find_compiler() is not None)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("case", cases())
def test_what_no_row_may_read_is_in_no_result(case: Case, poison: float, window: int | None) -> None:
    expected = case.attend(case.cache(elsewhere=0), *case.states(), window)
    assert expected.isfinite().all()
    found = case.attend(case.cache(elsewhere=poison), *case.states(), window)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("which", ["q", "k", "v", "context"])
@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("case", cases())
def test_a_sequence_of_broken_numbers_changes_no_other_sequence(case: Case, poison: float, which: str) -> None:
    expected = case.attend(case.cache(elsewhere=0), *case.states(), None)
    for broken in range(len(case.chunks)):
        caches, (q, k, v) = case.cache(elsewhere=0), case.states()
        if which == "context":
            _, table = paged(case.chunks, BLOCK, BLOCKS)
            for side in caches[0]:
                side[table.places(broken, case.chunks[broken].start)] = poison
        else:
            {"q": q, "k": k, "v": v}[which][case.rows(broken)] = poison
        found = case.attend(caches, q, k, v, None)
        for other in range(len(case.chunks)):
            rows = case.rows(other)
            if other != broken:
                assert torch.equal(found[rows], expected[rows]), f"sequence {other} read from {broken}"
            elif which != "context" or case.chunks[broken].start:
                assert not found[rows].isfinite().all(), "a broken row must show, not look like an answer"


@pytest.mark.parametrize("which", ["q", "k", "v"])
@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("case", cases())
def test_one_broken_number_shows_in_the_row_that_has_it(case: Case, poison: float, which: str) -> None:
    for row in range(sum(chunk.count for chunk in case.chunks)):
        q, k, v = (states.abs() for states in case.states())  # a key of -inf then has a weight of 0
        {"q": q, "k": k, "v": v}[which][row, 1, 3] = poison
        found = case.attend(case.cache(elsewhere=0), q, k, v, None)
        assert not found[row].isfinite().all()


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("backend", [TORCH, NATIVE], ids=lambda backend: backend.name)
def test_a_broken_text_changes_no_other_text(backend: object, poison: float) -> None:
    if backend is NATIVE and find_compiler() is None:
        pytest.skip("no C++ compiler")
    lengths = [3, 70, 1, 5]
    drawn = torch.Generator().manual_seed(3)
    fused = torch.randn(sum(lengths), H + 2 * G, P, generator=drawn)

    def attend(states: Tensor) -> Sequence[Tensor]:
        step = (NATIVE if backend is NATIVE else TORCH).whole(whole_texts(lengths))
        out = step.attend(0, states[:, :H], states[:, H : H + G], states[:, H + G :], scale=SCALE, window=None)
        return torch.split(out, lengths)

    expected = attend(fused)
    for broken in range(len(lengths)):
        states = fused.clone()
        torch.split(states, lengths)[broken].fill_(poison)
        for text, (found, right) in enumerate(zip(attend(states), expected, strict=True)):
            if text == broken:
                assert not found.isfinite().any()
            else:
                assert torch.equal(found, right)
