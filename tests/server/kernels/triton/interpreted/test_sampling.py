"""The Triton sampler draws what the reference draws, on any rows."""

import pytest
import torch

from harness.engine.sampling_rows import assert_same, hard_rows, random_asking
from headmix_server.core.types import SamplingParams
from headmix_server.kernels.sampling.plan import Choosing, Scoring, plan_choices, plan_scores
from headmix_server.kernels.sampling.reference import torch_choose
from headmix_server.kernels.triton.sampling import triton_choose

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # about infinities, in the interpreter


@pytest.mark.parametrize(
    ("width", "dtype"), [(1, torch.float32), (5, torch.float32), (64, torch.bfloat16), (1500, torch.float32)]
)
def test_hard_rows_are_chosen_and_scored_as_by_the_reference(width: int, dtype: torch.dtype) -> None:
    logits = hard_rows(width, width).to(dtype)
    asked = random_asking(width, len(logits), width)
    none = torch.empty(len(logits), 0)
    plan = plan_choices(asked)
    assert_same(triton_choose(logits, none, plan), torch_choose(logits, none, plan), asked)


def test_added_tokens_are_chosen_as_by_the_reference() -> None:
    logits, added = torch.randn(6, 100), torch.randn(6, 7) + 1
    counts = [0, 1, 7, 7, 3, 0]
    for row, count in enumerate(counts):
        added[row, count:] = -float("inf")
    asked = [
        Choosing(entry.params, entry.position, count, entry.seen)
        for entry, count in zip(random_asking(100, 6, 2), counts, strict=True)
    ]
    plan = plan_choices(asked)
    assert_same(triton_choose(logits, added, plan), torch_choose(logits, added, plan), asked)


def test_given_tokens_are_scored_as_by_the_reference() -> None:
    logits = hard_rows(100)
    rows = [Scoring(token=7 * row, alternatives=row % 4) for row in range(len(logits))]
    plan, none = plan_scores(rows), torch.empty(len(rows), 0)
    asked = [Choosing(SamplingParams(max_tokens=1, logprobs=row.alternatives), 0) for row in rows]
    assert_same(triton_choose(logits, none, plan), torch_choose(logits, none, plan), asked)
