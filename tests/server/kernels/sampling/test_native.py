"""The native sampler chooses what the reference chooses, on any rows, in any batch and on any number of threads."""

from dataclasses import fields, replace

import pytest
import torch

from harness.engine.sampling_rows import INFINITY, assert_same, hard_rows, random_asking
from headmix_server.core.types import SamplingParams
from headmix_server.kernels.native.loading import load_native
from headmix_server.kernels.sampling.choice import Choose
from headmix_server.kernels.sampling.native import native_choose
from headmix_server.kernels.sampling.plan import (
    NOTHING_ALLOWED,
    Choosing,
    Number,
    Real,
    SamplingPlan,
    Scoring,
    plan_choices,
    plan_scores,
)
from headmix_server.kernels.sampling.reference import torch_choose

pytestmark = pytest.mark.skipif(not load_native(), reason="no native kernels here")


def nothing_added(rows: int) -> torch.Tensor:
    return torch.empty(rows, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [1, 5, 63, 64, 100, 1000])
def test_hard_rows_are_chosen_and_scored_as_by_the_reference(width: int, dtype: torch.dtype) -> None:
    for seed in range(12):
        logits = hard_rows(width, seed).to(dtype)
        asked = random_asking(width, len(logits), seed)
        none = nothing_added(len(logits))
        plan = plan_choices(asked)
        assert_same(native_choose(logits, none, plan), torch_choose(logits, none, plan), asked)


@pytest.mark.parametrize("width", [49_152, 131_075])
def test_so_are_large_vocabularies(width: int) -> None:
    logits = hard_rows(width)
    asked = random_asking(width, len(logits), width)
    none = nothing_added(len(logits))
    plan = plan_choices(asked)
    assert_same(native_choose(logits, none, plan), torch_choose(logits, none, plan), asked)


def test_added_tokens_are_chosen_and_scored_as_by_the_reference() -> None:
    generator = torch.Generator().manual_seed(1)
    for width, most in ((5, 3), (64, 64), (200, 9)):
        logits, added = torch.randn(12, width, generator=generator), torch.randn(12, most, generator=generator) + 1
        counts = [row % (most + 1) for row in range(12)]
        for row, count in enumerate(counts):
            added[row, count:] = -float("inf")
        asked = [
            replace(entry, added=count) for entry, count in zip(random_asking(width, 12, width), counts, strict=True)
        ]
        plan = plan_choices(asked)
        assert_same(native_choose(logits, added, plan), torch_choose(logits, added, plan), asked)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_row_is_chosen_alike_alone_and_in_any_batch_on_any_number_of_threads(threads: int) -> None:
    logits = hard_rows(3000)
    asked = random_asking(3000, len(logits), 5)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = native_choose(logits, nothing_added(len(logits)), plan_choices(asked))
    finally:
        torch.set_num_threads(before)
    for row, choosing in enumerate(asked):
        alone = native_choose(logits[row : row + 1], nothing_added(1), plan_choices([choosing]))
        assert int(alone.tokens[0]) == int(together.tokens[row])
        assert torch.equal(alone.logprobs[0], together.logprobs[row])


def test_given_tokens_are_scored_as_by_the_reference() -> None:
    logits = hard_rows(300)
    rows = [Scoring(token=7 * row, alternatives=row % 4) for row in range(len(logits))]
    plan = plan_scores(rows)
    found, wanted = (choose(logits, nothing_added(len(rows)), plan) for choose in (native_choose, torch_choose))
    asked = [Choosing(SamplingParams(max_tokens=1, logprobs=row.alternatives), 0) for row in rows]
    assert_same(found, wanted, asked)


def test_rows_may_lie_apart_and_a_step_may_have_none() -> None:
    wide = hard_rows(64)
    asked = random_asking(40, len(wide), 3)
    plan = plan_choices(asked)
    part, none = wide[:, 10:50], nothing_added(len(wide))
    assert_same(native_choose(part, none, plan), native_choose(part.contiguous(), none, plan), asked)
    empty = native_choose(wide[:0], nothing_added(0), plan_choices([]))
    assert all(getattr(empty, field.name).numel() == 0 for field in fields(empty))


def sample(logits: torch.Tensor, plan: SamplingPlan) -> None:
    native_choose(logits, nothing_added(len(logits)), plan)


def test_filters_that_keep_nothing_are_refused() -> None:
    """The search for a threshold would never end."""
    plan = plan_choices(random_asking(9, 2, 8))
    for column, value in ((Real.TOP_P, 0.0), (Real.TOP_P, float("nan")), (Real.INVERSE_TEMPERATURE, -1.0)):
        reals = plan.reals.clone()
        reals[1, column] = value
        with pytest.raises(RuntimeError, match=r"top-p|temperature"):
            sample(torch.zeros(2, 9), replace(plan, reals=reals))


def test_tables_that_point_outside_are_refused() -> None:
    plan = plan_choices(random_asking(9, 2, 8))
    logits = torch.zeros(2, 9)
    outside = [(Number.ADDED, 4), (Number.ALTERNATIVES, 99), (Number.SEEN_TO, 10**6), (Number.GIVEN, -5)]
    for column, value in [*outside, (Number.MASK, 9), (Number.BIAS_FROM, -1), (Number.BIAS_TO, 10**6)]:
        numbers = plan.numbers.clone()
        numbers[1, column] = value
        with pytest.raises(RuntimeError, match=r"row|token"):
            sample(logits, replace(plan, numbers=numbers))
    asked = [Choosing(SamplingParams(max_tokens=1), 0, biases=[(3, 1.0)])] * 2
    biased = replace(plan_choices(asked), biased=torch.tensor([3, -1], dtype=torch.int32))
    with pytest.raises(RuntimeError, match="biased token"):
        sample(logits, biased)
    with pytest.raises(RuntimeError, match="logits"):
        native_choose(torch.zeros(2, 9, dtype=torch.float64), nothing_added(2), plan)


@pytest.mark.parametrize("choose", [native_choose, torch_choose])
def test_only_what_a_mask_allows_is_chosen_and_scored_as_if_there_were_none(choose: Choose) -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]] * 3)
    asked = [
        Choosing(SamplingParams(max_tokens=1, temperature=0, logprobs=1), 0, mask=mask, biases=biases)
        for mask, biases in [(b"\x0c", ()), (b"\x00", ()), (None, [(0, -INFINITY), (3, 9.0)])]
    ]
    choices = choose(logits, nothing_added(3), plan_choices(asked))
    assert choices.tokens.tolist() == [2, NOTHING_ALLOWED, 3]
    unmasked = logits[0].log_softmax(dim=0)
    torch.testing.assert_close(choices.logprobs[[0, 2]], unmasked[[2, 3]])
    assert choices.top_tokens[[0, 2]].tolist() == [[0], [0]]
