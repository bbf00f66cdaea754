"""What the rows of a step request of the sampler, as tables with one row each; all implementations share the columns.

The kernels have the same columns: `kernels/native/sampling.cpp` and `kernels.triton.sampling`. Before the choice, a
row's scores are changed in this order: tokens that its mask does not allow are banned, its biases are added, its
penalties are applied. Log-probabilities are those of the original scores.
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
"""Replaces the token where the scores are not finite."""

NOTHING_ALLOWED = -2
"""Replaces the token where the mask and the biases leave none."""

_WORD_BITS = 32

LEAST_TEMPERATURE = 1e-30
"""Its inverse is still a float32."""

_LEAST_TOP_P = 1e-30
"""Still above 0 as a float32. Any smaller value keeps only the most probable token, and so does this one."""


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

    `ALTERNATIVES` is -1 if no log-probabilities are requested. If a token is `GIVEN`, and not `NO_TOKEN`, it is scored
    and none is chosen. `SEEN_FROM` and `SEEN_TO` bound the row's entries of `seen`; it has none if it requests no
    penalty. `ADDED` counts the tokens that its adapter adds after the vocabulary. `MASK` is the row's index in `masks`,
    -1 if everything is allowed; `BIAS_FROM` and `BIAS_TO` bound its entries of `biases`.
    """

    SEED = 0
    POSITION = 1
    TOP_K = 2
    ALTERNATIVES = 3
    GIVEN = 4
    SEEN_FROM = 5
    SEEN_TO = 6
    ADDED = 7
    MASK = 8
    BIAS_FROM = 9
    BIAS_TO = 10


@dataclass(frozen=True, slots=True)
class Choosing:
    """One row: what it requests, the position of its next token, and how many tokens its adapter adds.

    `seen`, if it has penalties: pairs of each token in prompt and answer and its count in the answer. `mask`: a bit per
    token, the lowest of the first byte for token 0; tokens beyond its end are not allowed. `biases`: distinct tokens
    and what is added to their scores; -inf bans a token.
    """

    params: SamplingParams
    position: int
    added: int = 0
    seen: "array[int] | None" = None
    mask: bytes | None = None
    biases: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True, slots=True)
class Scoring:
    """One row whose token is given: the alternatives to report with its score, and how many tokens its adapter adds."""

    token: int
    alternatives: int
    added: int = 0


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """The tables: `reals` float32 [rows, reals], `numbers` int64 [rows, numbers], `seen` int32 [entries, 2].

    `masks` int32 [masked rows, words]; `biased` int32 [entries], the tokens, and `biases` float32 [entries].
    `alternatives` is the largest number that a row requests. `sampled`: whether any row is not greedy; `top_k` and
    `top_p`: whether any row has that filter; `scored`: whether any row requests log-probabilities. What no row needs is
    not computed.
    """

    reals: Tensor
    numbers: Tensor
    seen: Tensor
    masks: Tensor
    biased: Tensor
    biases: Tensor
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
    def tables(self) -> tuple[Tensor, ...]:
        """All tables."""
        return self.reals, self.numbers, self.seen, self.masks, self.biased, self.biases

    def with_tables(self, tables: Iterable[Tensor]) -> "SamplingPlan":
        """Return the plan with these tables: its own tables, on another device."""
        reals, numbers, seen, masks, biased, biases = tables
        return replace(self, reals=reals, numbers=numbers, seen=seen, masks=masks, biased=biased, biases=biases)


def plan_choices(rows: Sequence[Choosing]) -> SamplingPlan:
    """Return the plan of rows whose next token is to be chosen."""
    reals, numbers, histories, entries = [], [], [], 0
    masks: list[bytes] = []
    biases: list[tuple[int, float]] = []
    for row in rows:
        params, seen = row.params, 0 if row.seen is None else len(row.seen) // 2
        alternatives = -1 if params.logprobs is None else params.logprobs
        reals.append(_reals(params))
        top_k = max(0, min(params.top_k, 2**31 - 1))
        mask = -1 if row.mask is None else len(masks)
        history, bias = (entries, entries + seen), (len(biases), len(biases) + len(row.biases))
        numbers.append((params.seed, row.position, top_k, alternatives, NO_TOKEN, *history, row.added, mask, *bias))
        entries += seen
        if row.seen is not None:
            histories.append(row.seen)
        if row.mask is not None:
            masks.append(row.mask)
        biases += row.biases
    return SamplingPlan(
        reals=_real_table(reals),
        numbers=_number_table(numbers),
        seen=_table(histories),
        masks=_mask_table(masks),
        biased=torch.tensor([token for token, _ in biases], dtype=torch.int32, device="cpu"),
        biases=torch.tensor([bias for _, bias in biases], dtype=torch.float32, device="cpu"),
        alternatives=max((row.params.logprobs or 0 for row in rows), default=0),
        sampled=any(row.params.temperature > 0 for row in rows),
        top_k=any(row.params.temperature > 0 and row.params.top_k > 0 for row in rows),
        top_p=any(row.params.temperature > 0 and row.params.top_p < 1 for row in rows),
        scored=any(row.params.logprobs is not None for row in rows),
    )


def plan_scores(rows: Sequence[Scoring]) -> SamplingPlan:
    """Return the plan of rows whose tokens are given."""
    numbers = [(0, 0, 0, row.alternatives, row.token, 0, 0, row.added, -1, 0, 0) for row in rows]
    return SamplingPlan(
        reals=_real_table([(0.0, 1.0, -math.inf, 0.0, 0.0, 1.0)] * len(rows)),
        numbers=_number_table(numbers),
        seen=_table(()),
        masks=_mask_table(()),
        biased=torch.empty(0, dtype=torch.int32, device="cpu"),
        biases=torch.empty(0, device="cpu"),
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


def _mask_table(masks: Sequence[bytes]) -> Tensor:
    """Return masks [masks, words], int32; shorter ones are padded with zeros, which allow nothing more."""
    words = -(-max(map(len, masks), default=0) * 8 // _WORD_BITS)
    joined = bytearray().join(mask.ljust(4 * words, b"\0") for mask in masks)
    if not joined:
        return torch.empty(0, 0, dtype=torch.int32, device="cpu")
    return torch.frombuffer(joined, dtype=torch.int32).view(len(masks), words)


def _reals(params: SamplingParams) -> tuple[float, ...]:
    return (
        1 / max(params.temperature, LEAST_TEMPERATURE) if params.temperature > 0 else 0.0,
        max(params.top_p, _LEAST_TOP_P),
        math.log(params.min_p) if params.min_p > 0 else -math.inf,
        params.presence_penalty,
        params.frequency_penalty,
        params.repetition_penalty,
    )
