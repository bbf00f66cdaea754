"""Chi-square tests: each filter's draws follow the distribution it defines, computed here by sorting, in float64."""

import math
from array import array
from typing import Any

import pytest
import torch

from headmix_server.core.sampling import penalises
from headmix_server.core.types import SamplingParams
from headmix_server.kernels.native.loading import load_native
from headmix_server.kernels.sampling.choice import Choose
from headmix_server.kernels.sampling.native import native_choose
from headmix_server.kernels.sampling.plan import Choosing, plan_choices
from headmix_server.kernels.sampling.reference import torch_choose

DRAWS = 20_000
SEEN = array("i", [0, 3, 1, 0, 4, 1, 30, 2])
SCORES = torch.randn(48, generator=torch.Generator().manual_seed(4)) * 2


def distribution(params: SamplingParams) -> list[float]:
    """Return each token's probability, token by token, straight from the definitions."""
    scores = [float(score) for score in SCORES]
    for token, said in zip(SEEN[::2], SEEN[1::2], strict=True):
        factor = params.repetition_penalty
        scores[token] = scores[token] / factor if scores[token] > 0 else scores[token] * factor
        if said:
            scores[token] -= params.presence_penalty + params.frequency_penalty * said
    odds = {token: math.exp((score - max(scores)) / params.temperature) for token, score in enumerate(scores)}
    ordered = sorted(odds, key=lambda token: -odds[token])
    if params.top_k:
        ordered = ordered[: params.top_k]
    total, mass = sum(odds[token] for token in ordered), 0.0
    kept: list[int] = []
    for token in ordered:
        if not kept or mass < params.top_p * total:
            kept.append(token)
        mass += odds[token]
    kept = [token for token in kept if odds[token] >= params.min_p * odds[kept[0]]]
    whole = sum(odds[token] for token in kept)
    return [odds[token] / whole if token in kept else 0.0 for token in range(len(scores))]


def chi_square(counts: list[int], chances: list[float]) -> tuple[float, int]:
    """Return the statistic and its degrees of freedom; rare tokens are one cell."""
    cells = [(count, DRAWS * chance) for count, chance in zip(counts, chances, strict=True)]
    common = [cell for cell in cells if cell[1] >= 10]
    rare = [cell for cell in cells if 0 < cell[1] < 10]
    if rare:
        common.append((sum(count for count, _ in rare), sum(expected for _, expected in rare)))
    return sum((count - expected) ** 2 / expected for count, expected in common), len(common) - 1


def limit(freedom: int) -> float:
    """Return the value that 1 in 10,000 correct samplers exceeds (Wilson and Hilferty's approximation)."""
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + 3.72 * math.sqrt(part)) ** 3)


@pytest.mark.parametrize("choose", [torch_choose, native_choose], ids=["torch", "native"])
@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"temperature": 0.4},
        {"temperature": 2.0},
        {"top_k": 7},
        {"top_p": 0.8},
        {"min_p": 0.05},
        {"frequency_penalty": 0.9, "presence_penalty": -0.5},
        {"repetition_penalty": 1.6},
        {"temperature": 0.9, "top_k": 20, "top_p": 0.9, "min_p": 0.02, "frequency_penalty": 0.4},
    ],
    ids=lambda filters: " ".join(filters) or "none",
)
def test_draws_follow_the_distribution(choose: Choose, filters: dict[str, Any]) -> None:
    if choose is native_choose and not load_native():
        pytest.skip("no native kernels here")
    params = SamplingParams(max_tokens=1, seed=12, **({"temperature": 1.0} | filters))
    chances = distribution(params)
    seen = SEEN if penalises(params) else None
    plan = plan_choices([Choosing(params, position, 0, seen) for position in range(DRAWS)])
    tokens = choose(SCORES.expand(DRAWS, -1), torch.empty(DRAWS, 0), plan).tokens
    counts = tokens.bincount(minlength=len(SCORES)).tolist()
    assert all(count == 0 for count, chance in zip(counts, chances, strict=True) if chance == 0)
    statistic, freedom = chi_square(counts, chances)
    assert statistic < limit(freedom)
