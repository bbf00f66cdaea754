"""From a step's final hidden states to its rows' results: tokens, log-probabilities, class scores, vectors.

Everything is computed first and fetched together, so a step waits for the device once. Owns the pooled states of texts
that are read in several steps. The runner has already decided which rows may run. A row with numbers that are not
finite fails here, alone, whether they come from its states, its scores or its adapter's head.
"""

import math
from collections.abc import Callable, Sequence
from typing import assert_never

import torch
from msgspec import UNSET, UnsetType
from torch import Tensor
from torch.nn.functional import normalize

from headmix_adapters.config import Pooling
from headmix_adapters.reference import classify, label_probabilities, last_place
from headmix_server.core.runner import NOT_FINITE, Pooled, RowFailed, RowResult, Scored, failed_row
from headmix_server.core.types import ClassificationParams, EmbeddingParams, SamplingParams
from headmix_server.device.exchange import Awaited, Readback
from headmix_server.device.generations import Generating, Generations
from headmix_server.device.placed import Placed, take_rows
from headmix_server.device.pooling import PooledStates
from headmix_server.device.sampler import Sampler
from headmix_server.device.token_counts import TokenCounts
from headmix_server.kernels.sampling.choice import SamplingBackend
from headmix_server.models.model import Model


class ReadOut:
    """Computes the results of one model's steps; `sampling` chooses tokens."""

    def __init__(self, model: Model, sampling: SamplingBackend) -> None:
        self._pooled = PooledStates()
        self._counts = TokenCounts()
        self._generations = Generations(model, Sampler(sampling, self._counts, model.config.eos_ids))

    def release(self, sequence_id: int) -> None:
        """Drop the state of a sequence; does nothing if it is unknown."""
        self._pooled.release(sequence_id)
        self._counts.release(sequence_id)

    def results(self, placed: Sequence[Placed], hidden: Tensor) -> dict[int, RowResult]:
        """Return every row's result, by sequence id, from the final hidden states [tokens, D]."""
        back = Readback()
        broken = back.ask(_find_broken(placed, hidden))
        generating: list[Generating] = []
        pending: dict[int, Callable[[], RowResult]] = {}
        for item in placed:
            match item.row.params:
                case SamplingParams() as sampling:
                    generating.append((item, sampling))
                case ClassificationParams():
                    pending[item.row.sequence_id] = self._classify(item, hidden, back)
                case EmbeddingParams() as params:
                    pending[item.row.sequence_id] = self._embed(item, params, hidden, back)
                case _:
                    assert_never(item.row.params)
        generations = self._generations.ask(generating, hidden, back)
        back.fetch()
        results = generations.results() | {number: read() for number, read in pending.items()}
        for item, is_broken in zip(placed, broken.read().tolist(), strict=True):
            if is_broken:
                results[item.row.sequence_id] = failed_row(item.row, NOT_FINITE)
        return results

    def _embed(self, item: Placed, params: EmbeddingParams, hidden: Tensor, back: Readback) -> Callable[[], RowResult]:
        number = item.row.sequence_id
        pooled = self._pool_states(item, params.pooling, hidden)
        if pooled is None:
            return lambda: RowResult(number)
        vector = back.ask(normalize(pooled, dim=-1) if params.normalize else pooled)
        return lambda: RowResult(number, _pooled(vector))

    def _pool_states(
        self, item: Placed, pooling: Pooling, hidden: Tensor, pad_token: int | UnsetType = UNSET
    ) -> Tensor | None:
        """Add a chunk's states; return the whole sequence's pooled vector [D] once its end is reached."""
        row = item.row
        last = -1 if pad_token is UNSET else last_place(row.tokens, pad_token)
        self._pooled.add(row.sequence_id, hidden[item.rows], pooling, first=row.start == 0, last=last)
        return self._pooled.take(row.sequence_id, pooling, row.end) if row.samples else None

    def _classify(self, item: Placed, hidden: Tensor, back: Readback) -> Callable[[], RowResult]:
        row, occupant = item.row, item.occupant
        if occupant is None or occupant.config.classifier is None:  # `runner._fault` has already refused this row
            raise RuntimeError("a classification row without a classification head")
        classifier = occupant.config.classifier
        pooled = self._pool_states(item, classifier.pooling, hidden, classifier.pad_token)
        if pooled is None:
            return lambda: RowResult(row.sequence_id)
        logits = classify(classifier, pooled, occupant.head).float()
        scores = back.ask(torch.stack([logits, label_probabilities(classifier, logits)]))
        return lambda: RowResult(row.sequence_id, _scored(scores))


def _pooled(vector: Awaited) -> Pooled | RowFailed:
    numbers: list[float] = vector.read().tolist()
    return Pooled(tuple(numbers)) if all(map(math.isfinite, numbers)) else NOT_FINITE


def _scored(both: Awaited) -> Scored | RowFailed:
    scores, probs = both.read().tolist()
    finite = all(map(math.isfinite, scores))  # an infinite score may still have a finite probability
    return Scored(tuple(probs)) if finite else NOT_FINITE


def _find_broken(placed: Sequence[Placed], hidden: Tensor) -> Tensor:
    """Return which sequences have states that are not finite: [sequences] bool, on the states' device.

    All of a sequence's rows count, not only those read: the others are in the cache, where later rows would read them.
    """
    norms: Tensor = torch.linalg.vector_norm(hidden, dim=-1)  # the cheapest reduction that keeps NaN and infinities
    broken = ~norms.isfinite()  # [tokens]
    if len(placed) == len(hidden):
        return broken
    counts = take_rows(broken.cumsum(0)[:, None], [item.rows.stop - 1 for item in placed])[:, 0]
    return counts.diff(prepend=counts.new_zeros(1)) > 0
