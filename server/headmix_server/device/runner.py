"""The real runner: one ragged step on the base with every row's own adapter.

Joins model, cache memory, adapter pool and sampler. It trusts the engine's accounts of blocks but not its leases: a row
whose lease does not match the slot fails alone and loudly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from headmix_adapters.config import BaseShape, Pooling
from headmix_adapters.reference import classify, label_probabilities
from headmix_server.core.runner import (
    AdapterLoadError,
    Batch,
    BatchRow,
    HostAdapter,
    Pooled,
    RowFailed,
    RowResult,
    Scored,
)
from headmix_server.core.types import AdapterRef, EmbeddingParams, SamplingParams, TokenLogprob
from headmix_server.device.adapter_files import LoadedAdapter, load_adapter
from headmix_server.device.adapter_pool import AdapterPool, Occupant
from headmix_server.device.kv_memory import KVMemory
from headmix_server.device.pooling import PooledStates
from headmix_server.device.sampler import describe, sample
from headmix_server.device.vocabulary import added_scores, take_added, vocabulary_size
from headmix_server.kernels.attention import PagedAttention, Span, StepAttention, WholeAttention
from headmix_server.models.model import Model


@dataclass(frozen=True, slots=True)
class _Placed:
    """A row that takes part: its first place in the ragged batch and what its slot holds."""

    row: BatchRow
    first: int
    occupant: Occupant | None

    @property
    def rows(self) -> slice:
        return slice(self.first, self.first + self.row.count)


class TorchRunner:
    """See `core.runner.Runner`. `memory` is None for a base that reads whole texts and so keeps no keys."""

    def __init__(
        self, model: Model, base: BaseShape, memory: KVMemory | None, num_slots: int, dtype: torch.dtype
    ) -> None:
        self._model = model
        self._base = base
        self._memory = memory
        self._pool = AdapterPool(base, num_slots, dtype)
        self._pooled = PooledStates()

    def load(self, ref: AdapterRef) -> LoadedAdapter:
        """Read an artifact into host memory; see `device.adapter_files.load_adapter`."""
        return load_adapter(ref, self._base)

    def install(self, slot: int, generation: int, adapter: HostAdapter) -> None:
        """Put an adapter's tensors into a slot."""
        if not isinstance(adapter, LoadedAdapter):
            raise AdapterLoadError("this runner takes only adapters it has loaded")
        self._pool.install(slot, generation, adapter)

    def clear(self, slot: int) -> None:
        """Empty a slot."""
        self._pool.clear(slot)

    def release(self, sequence_id: int) -> None:
        """Drop a sequence's pooled state."""
        self._pooled.release(sequence_id)

    @torch.inference_mode()
    def run(self, batch: Batch) -> list[RowResult]:
        """Compute one step."""
        placed, results = self._place(batch)
        if placed:
            hidden = self._forward(placed)
            results |= self._read_out(placed, hidden)
        return [results[row.sequence_id] for row in batch.rows]

    def _place(self, batch: Batch) -> tuple[list[_Placed], dict[int, RowResult]]:
        """Line up the rows that can run; the others' failures are the second value."""
        placed: list[_Placed] = []
        failed: dict[int, RowResult] = {}
        first = 0
        for row in batch.rows:
            occupant = None if row.lease is None else self._pool.occupant(row.lease)
            fault = _fault(row, occupant, self._base.vocab_size)
            if not (fault or self._model.generates):
                fault = _part_fault(row)
            if fault:
                failed[row.sequence_id] = RowResult(row.sequence_id, RowFailed(fault))
                continue
            placed.append(_Placed(row, first, occupant))
            first += row.count
        return placed, failed

    def _forward(self, placed: Sequence[_Placed]) -> Tensor:
        ids = [token for item in placed for token in item.row.tokens]
        added = take_added(ids, [(item.first, item.row.count, item.occupant) for item in placed], self._base.vocab_size)
        positions = torch.cat([torch.arange(item.row.start, item.row.end) for item in placed])
        routed = [(item.row.lease.slot, item.first, item.row.count) for item in placed if item.row.lease is not None]
        adapters = self._pool.route(routed, added)
        return self._model.forward(torch.tensor(ids), positions, self._attention(placed), adapters)

    def _attention(self, placed: Sequence[_Placed]) -> StepAttention:
        memory = self._memory
        if memory is None:
            return WholeAttention([item.rows for item in placed])
        spans = [
            Span(item.first, item.row.count, item.row.start, memory.places(torch.tensor(item.row.blocks), item.row.end))
            for item in placed
        ]
        return PagedAttention(memory.layers, spans, memory.dtype)

    def _read_out(self, placed: Sequence[_Placed], hidden: Tensor) -> dict[int, RowResult]:
        results: dict[int, RowResult] = {}
        generating: list[tuple[_Placed, SamplingParams]] = []
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
        if generating:
            last = hidden.index_select(0, torch.tensor([item.rows.stop - 1 for item, _ in generating]))
            logits = self._model.logits(last).float()
            added = {
                at: scores
                for at, (item, _) in enumerate(generating)
                if (scores := self._added(item, last[at])) is not None
            }
            sampled = sample(logits, [(item.row, params) for item, params in generating], added)
            for (item, params), choice in zip(generating, sampled, strict=True):
                scored = self._score_prompt(item, params, hidden)
                results[item.row.sequence_id] = RowResult(item.row.sequence_id, choice, scored)
        return results

    def _added(self, item: _Placed, hidden: Tensor) -> Tensor | None:
        return added_scores(hidden, item.occupant, tied_head=self._model.tied_head)

    def _embed(self, item: _Placed, params: EmbeddingParams, hidden: Tensor) -> RowResult:
        pooled = self._pool_states(item, params.pooling, hidden)
        if pooled is None:
            return RowResult(item.row.sequence_id)
        vector = normalize(pooled, dim=-1) if params.normalize else pooled
        return RowResult(item.row.sequence_id, Pooled(tuple(vector.float().tolist())))

    def _pool_states(self, item: _Placed, pooling: Pooling, hidden: Tensor) -> Tensor | None:
        """Take in a chunk's states; return the whole sequence's pooled vector [D] once its end is reached."""
        row = item.row
        self._pooled.add(row.sequence_id, hidden[item.rows], pooling, first=row.start == 0)
        return self._pooled.take(row.sequence_id, pooling, row.end) if row.samples else None

    def _classify(self, item: _Placed, hidden: Tensor) -> RowResult:
        row, occupant = item.row, item.occupant
        if occupant is None or occupant.config.classifier is None:  # `_fault` has refused this row before
            raise RuntimeError("a classification row without a classification head")
        classifier = occupant.config.classifier
        pooled = self._pool_states(item, classifier.pooling, hidden)
        if pooled is None:
            return RowResult(row.sequence_id)
        probs = label_probabilities(classifier, classify(classifier, pooled, occupant.head).float())
        return RowResult(row.sequence_id, Scored(tuple(probs.tolist())))

    def _score_prompt(self, item: _Placed, params: SamplingParams, hidden: Tensor) -> tuple[TokenLogprob, ...]:
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


def _part_fault(row: BatchRow) -> str:
    """Tell why a base that reads whole texts cannot run a row, or return an empty string."""
    if row.sampling is not None:
        return "the base reads whole texts; it does not generate"
    if row.start != 0 or not row.samples:
        return "the base reads whole texts, and this row is a part of one"
    return ""


def _fault(row: BatchRow, occupant: Occupant | None, vocab_size: int) -> str:
    """Tell why a row must not run, or return an empty string."""
    if row.lease is not None and occupant is None:
        return f"slot {row.lease.slot} no longer holds the adapter this request began with"
    if max(row.tokens) >= vocabulary_size(vocab_size, occupant):
        return "the prompt holds a token id that neither the base nor the adapter has"
    if row.embedding is not None:
        return ""
    has_head = occupant is not None and occupant.config.classifier is not None
    if row.sampling is None and not has_head:
        return "the adapter has no classification head"
    if row.sampling is not None and has_head:
        return "the adapter classifies; it does not generate"
    return ""
