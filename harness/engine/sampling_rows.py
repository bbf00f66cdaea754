"""Rows of scores and their sampling parameters, for comparing implementations of the sampler."""

import random
from array import array
from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from headmix_server.core.types import SamplingParams
from headmix_server.kernels.sampling.choice import Choices
from headmix_server.kernels.sampling.plan import Choosing

INFINITY = float("inf")


def hard_rows(width: int, seed: int = 0) -> Tensor:
    """Return float32 scores [rows, width]: ordinary ones, and every special case a row may have."""
    generator = torch.Generator().manual_seed(seed)
    usual = torch.randn(4, width, generator=generator) * torch.tensor([[0.3], [1.0], [3.0], [10.0]])
    ties = torch.randint(-3, 4, (3, width), generator=generator).float()
    flat = torch.full((1, width), 2.5)
    zeros = torch.where(torch.arange(width) % 2 == 0, 0.0, -0.0)[None]
    banned = usual[:1].clone()
    banned[0, torch.rand(width, generator=generator) < 0.9] = -INFINITY
    banned[0, width // 2] = 1.0
    alone = torch.full((1, width), -INFINITY)
    alone[0, -1] = -7.0
    nothing = torch.full((1, width), -INFINITY)
    huge = usual[:1] * 1e35
    peaked = usual[:1].clone()
    peaked[0, width // 3] = 90.0
    nan, infinite = usual[:1].clone(), usual[:1].clone()
    nan[0, width - 1], infinite[0, 0] = float("nan"), INFINITY
    return torch.cat([usual, ties, flat, zeros, banned, alone, nothing, huge, peaked, nan, infinite])


def random_asking(width: int, rows: int, seed: int = 0) -> list[Choosing]:
    """Return random sampling parameters for each row."""
    chance = random.Random(seed)
    return [_random_choosing(chance, width) for _ in range(rows)]


def _random_choosing(chance: random.Random, width: int) -> Choosing:
    params = SamplingParams(
        max_tokens=1,
        temperature=chance.choice([0, 1e-8, 0.3, 0.8, 1.0, 1.0, 2.0]),
        top_k=chance.choice([0, 0, 1, 2, 7, 50, width - 1, width, width + 5]),
        top_p=chance.choice([1.0, 1.0, 5e-324, 1e-46, 1e-9, 0.3, 0.95, 0.999999, 1 - 1e-12]),
        min_p=chance.choice([0.0, 0.0, 5e-324, 0.001, 0.2, 1.0]),
        presence_penalty=chance.choice([0.0, 0.0, 0.7, -2.0]),
        frequency_penalty=chance.choice([0.0, 0.0, 0.5, -0.3]),
        repetition_penalty=chance.choice([1.0, 1.0, 1.3, 0.01]),
        seed=chance.randrange(2**63),
        logprobs=chance.choice([None, None, 0, 1, min(5, width), min(20, width)]),
    )
    tokens = {chance.randrange(width + 3): chance.choice([0, 1, 2, 9]) for _ in range(chance.choice([0, 3, 40]))}
    seen = array("i", [number for entry in tokens.items() for number in entry])
    return Choosing(
        params,
        position=chance.randrange(2**31),
        seen=seen if tokens else None,
        mask=_random_mask(chance, width),
        biases=_random_biases(chance, width),
    )


def _random_mask(chance: random.Random, width: int) -> bytes | None:
    """Return a mask that may be shorter than the row, and may allow nothing."""
    share = chance.choice([None, None, 0.0, 0.02, 0.5, 1.0])
    if share is None:
        return None
    bits = [chance.random() < share for _ in range(chance.choice([width, width, width + 70, width // 2]))]
    return sum(allowed << place for place, allowed in enumerate(bits)).to_bytes(-(-len(bits) // 8), "little")


def _random_biases(chance: random.Random, width: int) -> list[tuple[int, float]]:
    tokens = chance.sample(range(width + 3), min(width, chance.choice([0, 0, 2, 30])))
    return [(token, chance.choice([-INFINITY, -100.0, -1.5, 2.0, 100.0])) for token in tokens]


def assert_same(found: Choices, wanted: Choices, asked: Sequence[Choosing]) -> None:
    """Check that tokens and top tokens are equal and log-probabilities close; the two may be on different devices."""
    found, wanted = (Choices(*(getattr(each, field.name).cpu() for field in fields(each))) for each in (found, wanted))
    assert found.tokens.tolist() == wanted.tokens.tolist()
    for row, choosing in enumerate(asked):
        count = choosing.params.logprobs
        if count is None or int(wanted.tokens[row]) < 0:
            continue
        torch.testing.assert_close(found.logprobs[row], wanted.logprobs[row], atol=2e-6, rtol=1e-6)
        assert found.top_tokens[row, :count].tolist() == wanted.top_tokens[row, :count].tolist()
        torch.testing.assert_close(
            found.top_logprobs[row, :count], wanted.top_logprobs[row, :count], atol=2e-6, rtol=1e-6
        )
