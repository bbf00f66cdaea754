"""The real runner: one ragged step of the base with every row's own adapter.

Combines model, cache memory and adapter pool; `outputs` turns the model's states into results. It trusts the engine's
block accounting but not its leases: a row whose lease does not match its slot fails, alone and with an error.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import assert_never

import torch
from torch import Tensor

from headmix_adapters.config import BaseShape
from headmix_server.core.runner import (
    AdapterLoadError,
    Batch,
    BatchRow,
    HostAdapter,
    Lease,
    RowFailed,
    RowResult,
    ScaledLease,
)
from headmix_server.core.types import AdapterRef, ClassificationParams, EmbeddingParams, SamplingParams
from headmix_server.device.adapters.adapter_files import LoadedAdapter, load_adapter
from headmix_server.device.adapters.adapter_pool import AdapterPool, Occupant
from headmix_server.device.adapters.added_tokens import OccupantSpan, take_added, vocabulary_size
from headmix_server.device.adapters.slot_storage import SlotStorage
from headmix_server.device.cuda.static_decode import StaticDecode
from headmix_server.device.cuda.static_step import DecodeRow
from headmix_server.device.kv_memory import KVMemory
from headmix_server.device.outputs import ReadOut
from headmix_server.device.placed import Placed
from headmix_server.device.placement import Placement
from headmix_server.device.threads import compute_with, computing_alone, stay_on_cores
from headmix_server.kernels.adapters.slot_span import SlotSpan, SlotUse
from headmix_server.kernels.attention.backend import AttentionBackend, choose_attention
from headmix_server.kernels.attention.step_layout import Span, StepLayout, lay_out, tabulate_blocks
from headmix_server.kernels.attention.torch_sdpa import StepAttention
from headmix_server.kernels.sampling.choice import SamplingBackend, choose_sampling, fastest_sampling
from headmix_server.models.model import Model

_STALE = "slot {slot} no longer holds the adapter this request began with"
_CLASSIFIES = "the adapter classifies; it does not generate"


class TorchRunner:
    """See `core.runner.Runner`; `storage` is that of the slots.

    `memory` is None for a base that reads whole texts and so caches no keys. Steps that only decode go to `decode`, if
    given. `attention` None selects the fastest available for the placement. Steps use as many cores as the thread that
    creates the runner; with `places` (`device.threads.as_places`), the thread that runs them and its team stay there.
    """

    def __init__(
        self,
        model: Model,
        base: BaseShape,
        memory: KVMemory | None,
        storage: SlotStorage,
        placement: Placement,
        decode: StaticDecode | None = None,
        attention: AttentionBackend | None = None,
        places: Tensor | None = None,
    ) -> None:
        self._model = model
        self._base = base
        self._memory = memory
        self._device = placement.device
        self._decode = decode
        self._pool = AdapterPool(storage, placement.dtype, placement.device)
        self._attention_backend = attention or choose_attention(placement.device, placement.dtype)
        self._read_out = ReadOut(model, _choose_sampling(model, placement.device))
        self._threads = torch.get_num_threads()
        self._places = places

    def load(self, ref: AdapterRef) -> LoadedAdapter:
        """Read an artifact into host memory; see `device.adapters.adapter_files.load_adapter`."""
        with computing_alone():
            return self._pool.stage(load_adapter(ref, self._base))

    def install(self, slot: int, generation: int, adapter: HostAdapter) -> None:
        """Put an adapter's tensors into a slot."""
        if not isinstance(adapter, LoadedAdapter):
            raise AdapterLoadError("this runner takes only adapters it has loaded")
        with computing_alone():
            self._pool.install(slot, generation, adapter)

    def clear(self, slot: int) -> None:
        """Empty a slot."""
        self._pool.clear(slot)

    def fits(self, adapter: HostAdapter, emptied: Collection[int]) -> bool:
        """See `Runner.fits`."""
        return isinstance(adapter, LoadedAdapter) and self._pool.fits(adapter, emptied)

    @property
    def adapter_number_bytes(self) -> int:
        """See `Runner.adapter_number_bytes`."""
        return self._pool.number_bytes

    @property
    def adapter_bytes(self) -> int:
        """See `Runner.adapter_bytes`."""
        return self._pool.committed_bytes

    def release(self, sequence_id: int) -> None:
        """Drop the state kept for a sequence between steps."""
        self._read_out.release(sequence_id)

    @torch.inference_mode()
    def run(self, batch: Batch) -> list[RowResult]:
        """Compute one step."""
        compute_with(self._threads)
        if self._places is not None:
            stay_on_cores(self._places)
        placed, results = self._place(batch)
        if placed:
            hidden = self._forward(placed)
            read = self._read_out.results(placed, hidden)
            self._clear_broken(placed, read)
            results |= read
        return [results[row.sequence_id] for row in batch.rows]

    def _place(self, batch: Batch) -> tuple[list[Placed], dict[int, RowResult]]:
        """Assign places to the rows that can run; also returns the results of those that cannot."""
        placed: list[Placed] = []
        failed: dict[int, RowResult] = {}
        first = 0
        for row in batch.rows:
            occupant = None if row.lease is None else self._pool.occupant(row.lease)
            fault = _fault(row, occupant, self._base.vocab_size)
            if not fault and row.beside:
                fault = _fault_beside(row, [self._pool.occupant(one.lease) for one in row.beside])
            if not (fault or self._model.generates):
                fault = _part_fault(row)
            if fault:
                failed[row.sequence_id] = RowResult(row.sequence_id, RowFailed(fault))
                continue
            placed.append(Placed(row, first, occupant))
            first += row.count
        return placed, failed

    def _forward(self, placed: Sequence[Placed]) -> Tensor:
        ids = [token for item in placed for token in item.row.tokens]
        occupied = (OccupantSpan(item.first, item.row.count, item.occupant) for item in placed)
        added = take_added(ids, occupied, self._base.vocab_size)
        if self._decode is not None and added is None and all(item.row.count == 1 for item in placed):
            hidden = self._decode.forward([self._decode_row(item.row) for item in placed])
            if hidden is not None:
                return hidden
        spans = [span for item in placed for span in item.spans()]
        layout = lay_out(spans)
        positions = layout.positions().to(self._device)
        routed = [_slot_span(item.row, item.row.lease, item.first) for item in placed if item.row.lease is not None]
        adapters = self._pool.route(routed, added)
        tokens, types = torch.tensor(ids, device=self._device), _types_of(placed, len(ids))
        return self._model.forward(
            tokens,
            positions,
            self._attention(spans, layout),
            adapters,
            None if types is None else types.to(self._device),
        )

    def _clear_broken(self, placed: Sequence[Placed], results: Mapping[int, RowResult]) -> None:
        """Clear the cache entries that failed rows wrote, before another sequence can get their blocks.

        Attention never reads places that its own sequence has not written; this ensures that they hold no NaN either.
        """
        for item in placed:
            row, result = item.row, results[item.row.sequence_id].result
            failed = isinstance(result, RowFailed) or (bool(row.drafts) and result is None)
            if self._memory is not None and failed:
                self._memory.clear(row.blocks, row.start, row.end)

    def _decode_row(self, row: BatchRow) -> DecodeRow:
        size = 1 if self._memory is None else self._memory.block_size
        slot = None if row.lease is None else row.lease.slot
        is_plain = row.scale == 1 and not row.beside
        return DecodeRow(row.tokens[0], row.start, row.blocks[: row.start // size + 1], slot, is_plain)

    def _attention(self, spans: Sequence[Span], layout: StepLayout) -> StepAttention:
        memory = self._memory
        if memory is None:
            return self._attention_backend.whole(layout)
        table = tabulate_blocks(spans, memory.block_size, memory.num_blocks)
        return self._attention_backend.paged(memory.layers, layout, table)


def _types_of(placed: Sequence[Placed], tokens: int) -> Tensor | None:
    """Return the type of each token, 1 in the second text of a pair; None if the step has no pair."""
    seconds = [(item, item.row.params.second) for item in placed if isinstance(item.row.params, ClassificationParams)]
    pairs = [(item, second) for item, second in seconds if 0 < second < len(item.row.history)]
    if not pairs:
        return None
    types = torch.zeros(tokens, dtype=torch.int64, device="cpu")
    for item, second in pairs:
        types[item.first + max(0, second - item.row.start) : item.first + item.row.count] = 1
    return types


def _choose_sampling(model: Model, device: torch.device) -> SamplingBackend:
    """Return the sampling backend; it is logged only if the model generates."""
    return choose_sampling(device) if model.generates else fastest_sampling(device)


def _part_fault(row: BatchRow) -> str:
    """Return why a base that reads whole texts cannot run a row, or an empty string."""
    match row.params:
        case SamplingParams():
            return "the base reads whole texts; it does not generate"
        case ClassificationParams() | EmbeddingParams():
            is_part = row.start != 0 or not row.samples
            return "the base reads whole texts, and this row is a part of one" if is_part else ""
        case _:
            assert_never(row.params)


def _slot_span(row: BatchRow, lease: Lease, first: int) -> SlotSpan:
    """Return the row's places and the slots it runs with, in an order that does not depend on how it names them.

    So the cached states of a combination of adapters are the same bits, however its adapters were ordered.
    """
    if not row.beside:
        return SlotSpan(lease.slot, first, row.count, row.scale)
    uses = [ScaledLease(lease, row.scale), *row.beside]
    uses.sort(key=lambda use: (use.lease.digest, use.scale))
    (slot, scale), *beside = (SlotUse(use.lease.slot, use.scale) for use in uses)
    return SlotSpan(slot, first, row.count, scale, tuple(beside))


def _fault_beside(row: BatchRow, occupants: Sequence[Occupant | None]) -> str:
    """Return why a row must not run with the adapters beside its first one, or an empty string."""
    for one, occupant in zip(row.beside, occupants, strict=True):
        if occupant is None:
            return _STALE.format(slot=one.lease.slot)
        if occupant.added is not None:
            return "only the first of several adapters may add tokens to the vocabulary"
        if occupant.config.classifier is not None and isinstance(row.params, SamplingParams):
            return _CLASSIFIES
    return ""


def _fault(row: BatchRow, occupant: Occupant | None, vocab_size: int) -> str:
    """Return why a row must not run, or an empty string."""
    if row.lease is not None and occupant is None:
        return _STALE.format(slot=row.lease.slot)
    if max(row.tokens) >= vocabulary_size(vocab_size, occupant):
        return "the prompt holds a token id that neither the base nor the adapter has"
    has_head = occupant is not None and occupant.config.classifier is not None
    match row.params:
        case SamplingParams():
            return _CLASSIFIES if has_head else ""
        case ClassificationParams():
            return "" if has_head else "the adapter has no classification head"
        case EmbeddingParams():
            return ""
        case _:
            assert_never(row.params)
