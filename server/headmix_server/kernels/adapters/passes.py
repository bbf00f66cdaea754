"""Rows with several adapters, or with scaled ones, on kernels that know one unscaled adapter per row.

The rows are computed in passes, each with one adapter of every row. Scales go into tables of a step's own, whose
entries are the adapters as the step uses them. The value's head parts read the base's own key, so the passes for them
come before all others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from headmix_server.kernels.adapters.image_tables import ABSENT, TERM_INDEX, ImageTables
from headmix_server.kernels.adapters.protocol import StepAdapters
from headmix_server.kernels.adapters.slot_span import SlotSpan, SlotUse

FROM_KEY = ("v", "head", "k")
"""The one term that reads the base's own key."""

_FROM_KEY = TERM_INDEX[FROM_KEY]


@dataclass(frozen=True, slots=True)
class UsedTables:
    """Tables whose slots are the uses of one step: `whole`, or cut into the terms that read the key and the `rest`."""

    whole: ImageTables
    from_key: ImageTables
    rest: ImageTables


def tables_of(tables: ImageTables, uses: Sequence[SlotUse]) -> UsedTables:
    """Return tables with a slot for each use, at its place, without waiting for the device."""
    device = tables.offsets.device
    slots = torch.tensor([use.slot for use in uses], device=device)
    scales = torch.tensor([use.scale for use in uses], dtype=torch.float32, device=device)
    whole = replace(
        tables,
        offsets=tables.offsets.index_select(0, slots),
        ranks=tables.ranks.index_select(0, slots),
        scales=tables.scales.index_select(0, slots) * scales[:, None],
        stored_bf16=tables.stored_bf16.index_select(0, slots),
    )
    rest = whole.offsets.clone()
    rest[:, :, _FROM_KEY] = ABSENT
    from_key = torch.full_like(whole.offsets, ABSENT)
    from_key[:, :, _FROM_KEY] = whole.offsets[:, :, _FROM_KEY]
    return UsedTables(whole, replace(whole, offsets=from_key), replace(whole, offsets=rest))


def uses_of(spans: Sequence[SlotSpan]) -> list[SlotUse]:
    """Return the distinct uses of a step's spans."""
    return sorted({use for span in spans for use in span.uses})


def in_passes(spans: Sequence[SlotSpan], uses: Sequence[SlotUse]) -> list[list[SlotSpan]]:
    """Return for each pass its spans, with uses by their places as slots; pass n has the rows' n-th adapters."""
    place = {use: index for index, use in enumerate(uses)}
    passes: list[list[SlotSpan]] = []
    for span in spans:
        for number, use in enumerate(span.uses):
            if number == len(passes):
                passes.append([])
            passes[number].append(SlotSpan(place[use], span.first, span.num_rows))
    return passes


class AdaptersInPasses:
    """See `StepAdapters`; `from_key` are the passes that only read the key and add to the value."""

    def __init__(self, from_key: Sequence[StepAdapters], passes: Sequence[StepAdapters]) -> None:
        self._from_key = from_key
        self._passes = passes

    def replace_embeddings(self, embeddings: Tensor) -> None:
        """See `StepAdapters`; the first pass knows the added tokens."""
        self._passes[0].replace_embeddings(embeddings)

    def add_qkv(self, layer: int, x: Tensor, qkv: Tensor) -> None:
        """See `StepAdapters`."""
        for one in (*self._from_key, *self._passes):
            one.add_qkv(layer, x, qkv)

    def add_o(self, layer: int, attention: Tensor, out: Tensor) -> None:
        """See `StepAdapters`."""
        for one in self._passes:
            one.add_o(layer, attention, out)

    def add_gate_up(self, layer: int, x: Tensor, gate_up: Tensor) -> None:
        """See `StepAdapters`."""
        for one in self._passes:
            one.add_gate_up(layer, x, gate_up)

    def add_down(self, layer: int, inner: Tensor, out: Tensor) -> None:
        """See `StepAdapters`."""
        for one in self._passes:
            one.add_down(layer, inner, out)
