"""From a step's final hidden states to what its rows are due: tokens, log-probabilities, class scores, vectors.

Owns the pooled states of texts that are read in several steps. Which rows may run at all, the runner has judged. A row
whose numbers are not finite fails here, alone, wherever they come from: its states, its scores or its adapter's head.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
from msgspec import UNSET, UnsetType
from torch import Tensor
from torch.nn.functional import normalize

from headmix_adapters.config import Pooling
from headmix_adapters.reference import classify, label_probabilities, last_place
from headmix_server.core.runner import NOT_FINITE, BatchRow, Pooled, RowResult, Scored
from headmix_server.core.types import ClassificationParams, EmbeddingParams, SamplingParams, TokenLogprob
from headmix_server.device.adapters.adapter_pool import Occupant
from headmix_server.device.adapters.added_tokens import added_scores
from headmix_server.device.pooling import PooledStates
from headmix_server.device.sampler import describe, is_finite, most_probable, sample
from headmix_server.models.model import Model


@dataclass(frozen=True, slots=True)
class Placed:
    """A row that takes part: its first place in the ragged batch and what its slot holds."""

    row: BatchRow
    first: int
    occupant: Occupant | None

    @property
    def rows(self) -> slice:
        """Its places in the batch."""
        return slice(self.first, self.first + self.row.count)


class ReadOut:
    """Reads the results of one model's steps."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._pooled = PooledStates()

    def release(self, sequence_id: int) -> None:
        """Drop a sequence's pooled state; one not known is no error."""
        self._pooled.release(sequence_id)

    def results(self, placed: Sequence[Placed], hidden: Tensor) -> dict[int, RowResult]:
        """Return every row's result by sequence, from the final hidden states [tokens, D]."""
        counts = _count_broken(placed, hidden)
        generating = [
            (item, params)
            for item in placed
            if isinstance(params := item.row.params, SamplingParams) and item.row.samples
        ]
        if not generating:
            return self._read(placed, hidden, counts.tolist())
        ends = torch.tensor([item.rows.stop - 1 for item, _ in generating], device=hidden.device)
        last = hidden.index_select(0, ends)
        logits = self._model.logits(last).float()
        numbers: list[int] = torch.cat(
            [counts, most_probable(logits)]
        ).tolist()  # what the device computes is awaited once
        results = self._read(placed, hidden, numbers[: len(placed)])
        sound = [at for at, (item, _) in enumerate(generating) if item.row.sequence_id not in results]
        if len(sound) < len(generating):
            last, logits = last[sound], logits[sound]
        due, greedy = [generating[at] for at in sound], [numbers[len(placed) + at] for at in sound]
        return results | self._continue(due, hidden, last, logits, greedy)

    def _read(self, placed: Sequence[Placed], hidden: Tensor, counts: Sequence[int]) -> dict[int, RowResult]:
        """Return the results of all rows except sound ones that still need a token; `counts` are of broken states."""
        results: dict[int, RowResult] = {}
        for item, count in zip(placed, counts, strict=True):
            number = item.row.sequence_id
            result = RowResult(number, NOT_FINITE) if count else self._read_row(item, hidden)
            if result is not None:
                results[number] = result
        return results

    def _read_row(self, item: Placed, hidden: Tensor) -> RowResult | None:
        """Return a sound row's result; None if it still needs a token."""
        match item.row.params:
            case SamplingParams() as sampling:
                return None if item.row.samples else self._read_prompt(item, sampling, hidden)
            case ClassificationParams():
                return self._classify(item, hidden)
            case EmbeddingParams() as params:
                return self._embed(item, params, hidden)
            case _:
                assert_never(item.row.params)

    def _read_prompt(self, item: Placed, sampling: SamplingParams, hidden: Tensor) -> RowResult:
        scored = self._score_prompt(item, sampling, hidden)
        return RowResult(item.row.sequence_id, NOT_FINITE if scored is None else None, scored or ())

    def _continue(
        self,
        generating: Sequence[tuple[Placed, SamplingParams]],
        hidden: Tensor,
        last: Tensor,
        logits: Tensor,
        greedy: Sequence[int],
    ) -> dict[int, RowResult]:
        """Choose the next token of rows that are due one, from the last state [rows, D] and scores [rows, vocab]."""
        added = {
            at: scores for at, (item, _) in enumerate(generating) if (scores := self._added(item, last[at])) is not None
        }
        sampled = sample(logits, [(item.row, params) for item, params in generating], added, greedy)
        results: dict[int, RowResult] = {}
        for (item, params), choice in zip(generating, sampled, strict=True):
            number, scored = item.row.sequence_id, self._score_prompt(item, params, hidden)
            if choice is None or scored is None:
                results[number] = RowResult(number, NOT_FINITE)
            else:
                results[number] = RowResult(number, choice, scored)
        return results

    def _added(self, item: Placed, hidden: Tensor) -> Tensor | None:
        return added_scores(hidden, item.occupant, tied_head=self._model.tied_head)

    def _embed(self, item: Placed, params: EmbeddingParams, hidden: Tensor) -> RowResult:
        pooled = self._pool_states(item, params.pooling, hidden)
        if pooled is None:
            return RowResult(item.row.sequence_id)
        vector = normalize(pooled, dim=-1) if params.normalize else pooled
        numbers: list[float] = vector.float().tolist()
        finite = all(map(math.isfinite, numbers))
        return RowResult(item.row.sequence_id, Pooled(tuple(numbers)) if finite else NOT_FINITE)

    def _pool_states(
        self, item: Placed, pooling: Pooling, hidden: Tensor, pad_token: int | UnsetType = UNSET
    ) -> Tensor | None:
        """Take in a chunk's states; return the whole sequence's pooled vector [D] once its end is reached."""
        row = item.row
        last = -1 if pad_token is UNSET else last_place(row.tokens, pad_token)
        self._pooled.add(row.sequence_id, hidden[item.rows], pooling, first=row.start == 0, last=last)
        return self._pooled.take(row.sequence_id, pooling, row.end) if row.samples else None

    def _classify(self, item: Placed, hidden: Tensor) -> RowResult:
        row, occupant = item.row, item.occupant
        if occupant is None or occupant.config.classifier is None:  # `_fault` has refused this row before
            raise RuntimeError("a classification row without a classification head")
        classifier = occupant.config.classifier
        pooled = self._pool_states(item, classifier.pooling, hidden, classifier.pad_token)
        if pooled is None:
            return RowResult(row.sequence_id)
        logits = classify(classifier, pooled, occupant.head).float()
        scores, probs = torch.stack([logits, label_probabilities(classifier, logits)]).tolist()
        finite = all(map(math.isfinite, scores))  # an infinite score has a probability all the same
        return RowResult(row.sequence_id, Scored(tuple(probs)) if finite else NOT_FINITE)

    def _score_prompt(self, item: Placed, params: SamplingParams, hidden: Tensor) -> tuple[TokenLogprob, ...] | None:
        """Return the log-probabilities of the prompt tokens this chunk's positions predict, where asked for.

        None: one of them is not finite.
        """
        row = item.row
        targets = row.history[row.start + 1 : min(row.end + 1, row.prompt_length)]
        if not params.prompt_logprobs or not targets:
            return ()
        states = hidden[item.first : item.first + len(targets)]
        logits = self._model.logits(states).float()
        if (added := self._added(item, states)) is not None:
            logits = torch.cat([logits, added], dim=-1)
        scores = logits.log_softmax(dim=-1)  # [targets, vocab]
        described = tuple(describe(scores[at], token, params.logprobs or 0) for at, token in enumerate(targets))
        return described if all(map(is_finite, described)) else None


def _count_broken(placed: Sequence[Placed], hidden: Tensor) -> Tensor:
    """Count the rows of each sequence whose states are not finite: [sequences] int64, on the states' device.

    All rows count, not only those that are read: the others are in the cache, where later ones would meet them.
    """
    norms: Tensor = torch.linalg.vector_norm(hidden, dim=-1)  # the cheapest reduction that keeps NaN and infinities
    broken = ~norms.isfinite()  # [tokens]
    if len(placed) == len(hidden):
        return broken.long()
    ends = torch.tensor([item.rows.stop - 1 for item in placed], device=hidden.device)
    return broken.cumsum(0)[ends].diff(prepend=broken.new_zeros(1, dtype=torch.int64))
