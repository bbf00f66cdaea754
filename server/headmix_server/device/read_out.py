"""From a step's final hidden states to what its rows are due: tokens, log-probabilities, class scores, vectors.

Owns the pooled states of texts that are read in several steps. Which rows may run at all, the runner has judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from headmix_adapters.config import Pooling
from headmix_adapters.reference import classify, label_probabilities
from headmix_server.core.runner import BatchRow, Pooled, RowResult, Scored
from headmix_server.core.types import EmbeddingParams, SamplingParams, TokenLogprob
from headmix_server.device.adapter_pool import Occupant
from headmix_server.device.pooling import PooledStates
from headmix_server.device.sampler import describe, sample
from headmix_server.device.vocabulary import added_scores
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
        results: dict[int, RowResult] = {}
        generating: list[tuple[Placed, SamplingParams]] = []
        for item in placed:
            if item.row.embedding is not None:
                results[item.row.sequence_id] = self._embed(item, item.row.embedding, hidden)
            elif item.row.sampling is None:
                results[item.row.sequence_id] = self._classify(item, hidden)
            elif item.row.samples:
                generating.append((item, item.row.sampling))
            else:
                scored = self._score_prompt(item, item.row.sampling, hidden)
                results[item.row.sequence_id] = RowResult(item.row.sequence_id, None, scored)
        return results | self._continue(generating, hidden)

    def _continue(self, generating: Sequence[tuple[Placed, SamplingParams]], hidden: Tensor) -> dict[int, RowResult]:
        """Choose the next token of all rows that are due one, together."""
        if not generating:
            return {}
        last = hidden.index_select(
            0, torch.tensor([item.rows.stop - 1 for item, _ in generating], device=hidden.device)
        )
        logits = self._model.logits(last).float()
        added = {
            at: scores for at, (item, _) in enumerate(generating) if (scores := self._added(item, last[at])) is not None
        }
        sampled = sample(logits, [(item.row, params) for item, params in generating], added)
        return {
            item.row.sequence_id: RowResult(item.row.sequence_id, choice, self._score_prompt(item, params, hidden))
            for (item, params), choice in zip(generating, sampled, strict=True)
        }

    def _added(self, item: Placed, hidden: Tensor) -> Tensor | None:
        return added_scores(hidden, item.occupant, tied_head=self._model.tied_head)

    def _embed(self, item: Placed, params: EmbeddingParams, hidden: Tensor) -> RowResult:
        pooled = self._pool_states(item, params.pooling, hidden)
        if pooled is None:
            return RowResult(item.row.sequence_id)
        vector = normalize(pooled, dim=-1) if params.normalize else pooled
        return RowResult(item.row.sequence_id, Pooled(tuple(vector.float().tolist())))

    def _pool_states(self, item: Placed, pooling: Pooling, hidden: Tensor) -> Tensor | None:
        """Take in a chunk's states; return the whole sequence's pooled vector [D] once its end is reached."""
        row = item.row
        self._pooled.add(row.sequence_id, hidden[item.rows], pooling, first=row.start == 0)
        return self._pooled.take(row.sequence_id, pooling, row.end) if row.samples else None

    def _classify(self, item: Placed, hidden: Tensor) -> RowResult:
        row, occupant = item.row, item.occupant
        if occupant is None or occupant.config.classifier is None:  # `_fault` has refused this row before
            raise RuntimeError("a classification row without a classification head")
        classifier = occupant.config.classifier
        pooled = self._pool_states(item, classifier.pooling, hidden)
        if pooled is None:
            return RowResult(row.sequence_id)
        probs = label_probabilities(classifier, classify(classifier, pooled, occupant.head).float())
        return RowResult(row.sequence_id, Scored(tuple(probs.tolist())))

    def _score_prompt(self, item: Placed, params: SamplingParams, hidden: Tensor) -> tuple[TokenLogprob, ...]:
        """Return the log-probabilities of the prompt tokens this chunk's positions predict, where asked for."""
        row = item.row
        targets = row.history[row.start + 1 : min(row.end + 1, row.prompt_length)]
        if not params.prompt_logprobs or not targets:
            return ()
        states = hidden[item.first : item.first + len(targets)]
        logits = self._model.logits(states).float()
        if (added := self._added(item, states)) is not None:
            logits = torch.cat([logits, added], dim=-1)
        scores = logits.log_softmax(dim=-1)  # [targets, vocab]
        return tuple(describe(scores[at], token, params.logprobs or 0) for at, token in enumerate(targets))
