"""What the rows of a step ask of the sampler, as tables: one row each, in columns that every implementation knows.

The kernels have the same columns: `kernels/native/sampling.cpp` and `kernels.triton.sampling`. A new way to change
scores before the choice (a bias, a mask of what a grammar allows) is a column here and a line where each implementation
applies the penalties.
"""

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from torch import Tensor

from headmix_server.core.types import SamplingParams

NO_TOKEN = -1
"""What stands for a token where the scores are not finite."""

LEAST_TEMPERATURE = 1e-30
"""Its inverse is still a float32."""

_LEAST_TOP_P = 1e-30
"""A float32 of its own still: what is less keeps the most probable token alone, as this does."""


class Real(IntEnum):
    """Columns of `SamplingPlan.reals`. An inverse temperature of 0 is greedy."""

    INVERSE_TEMPERATURE = 0
    TOP_P = 1
    LOG_MIN_P = 2
    PRESENCE = 3
    FREQUENCY = 4
    REPETITION = 5


class Number(IntEnum):
    """Columns of `SamplingPlan.numbers`.

    `ALTERNATIVES` is -1 where no log-probabilities are asked for. Where a token is `GIVEN`, and not `NO_TOKEN`, it is
    scored and none is chosen. `SEEN_FROM` and `SEEN_TO` bound the row's entries of `seen`, of which there are none
    where it asks for no penalty. `ADDED` counts the tokens that its adapter adds behind the vocabulary.
    """

    SEED = 0
    POSITION = 1
    TOP_K = 2
    ALTERNATIVES = 3
    GIVEN = 4
    SEEN_FROM = 5
    SEEN_TO = 6
    ADDED = 7


@dataclass(frozen=True, slots=True)
class Choosing:
    """One row: what it asks for, the position of the token it is due, and how many tokens its adapter adds.

    `seen`, where it has penalties: pairs of each token of prompt and answer and how often the answer has it.
    """

    params: SamplingParams
    position: int
    added: int = 0
    seen: "array[int] | None" = None


@dataclass(frozen=True, slots=True)
class Scoring:
    """One row whose token is given: how many alternatives are told next to its score, and how many its adapter adds."""

    token: int
    alternatives: int
    added: int = 0


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """The tables: `reals` float32 [rows, reals], `numbers` int64 [rows, numbers], `seen` int32 [entries, 2].

    `alternatives` is the most that any row asks for. `sampled`: whether any is not greedy; `top_k` and `top_p`: whether
    any has that filter; `scored`: whether any asks for log-probabilities. What no row needs is not computed.
    """

    reals: Tensor
    numbers: Tensor
    seen: Tensor
    alternatives: int
    sampled: bool
    top_k: bool
    top_p: bool
    scored: bool

    @property
    def filters(self) -> bool:
        """Whether any row has top-k or top-p."""
        return self.top_k or self.top_p

    @property
    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """The reals, the numbers and what was seen."""
        return self.reals, self.numbers, self.seen

    def with_tables(self, tables: Iterable[Tensor]) -> "SamplingPlan":
        """Return the plan with these tables: its own, on another device."""
        reals, numbers, seen = tables
        return replace(self, reals=reals, numbers=numbers, seen=seen)


def plan_choices(rows: Sequence[Choosing]) -> SamplingPlan:
    """Return the plan of rows that are due a token."""
    reals, numbers, histories, entries = [], [], [], 0
    for row in rows:
        params, seen = row.params, 0 if row.seen is None else len(row.seen) // 2
        alternatives = -1 if params.logprobs is None else params.logprobs
        reals.append(_reals(params))
        top_k = max(0, min(params.top_k, 2**31 - 1))
        numbers.append((params.seed, row.position, top_k, alternatives, NO_TOKEN, entries, entries + seen, row.added))
        entries += seen
        if row.seen is not None:
            histories.append(row.seen)
    return SamplingPlan(
        reals=_real_table(reals),
        numbers=_number_table(numbers),
        seen=_table(histories),
        alternatives=max((row.params.logprobs or 0 for row in rows), default=0),
        sampled=any(row.params.temperature > 0 for row in rows),
        top_k=any(row.params.temperature > 0 and row.params.top_k > 0 for row in rows),
        top_p=any(row.params.temperature > 0 and row.params.top_p < 1 for row in rows),
        scored=any(row.params.logprobs is not None for row in rows),
    )


def plan_scores(rows: Sequence[Scoring]) -> SamplingPlan:
    """Return the plan of rows whose tokens are given."""
    numbers = [(0, 0, 0, row.alternatives, row.token, 0, 0, row.added) for row in rows]
    return SamplingPlan(
        reals=_real_table([(0.0, 1.0, -math.inf, 0.0, 0.0, 1.0)] * len(rows)),
        numbers=_number_table(numbers),
        seen=_table(()),
        alternatives=max((row.alternatives for row in rows), default=0),
        sampled=False,
        top_k=False,
        top_p=False,
        scored=True,
    )


def _real_table(reals: Sequence[tuple[float, ...]]) -> Tensor:
    return torch.tensor(reals, dtype=torch.float32, device="cpu").view(-1, len(Real))


def _number_table(numbers: Sequence[tuple[int, ...]]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int64, device="cpu").view(-1, len(Number))


def _table(histories: "Sequence[array[int]]") -> Tensor:
    joined = bytearray().join(histories)
    if not joined:
        return torch.empty(0, 2, dtype=torch.int32, device="cpu")
    return torch.frombuffer(joined, dtype=torch.int32).view(-1, 2)


def _reals(params: SamplingParams) -> tuple[float, ...]:
    return (
        1 / max(params.temperature, LEAST_TEMPERATURE) if params.temperature > 0 else 0.0,
        max(params.top_p, _LEAST_TOP_P),
        math.log(params.min_p) if params.min_p > 0 else -math.inf,
        params.presence_penalty,
        params.frequency_penalty,
        params.repetition_penalty,
    )
