"""A step's adapters on the CPU by the native operations: one call per site and layer for the whole ragged batch.

The operations read the adapters' images in place, each weight once for up to 16 rows of its adapter. Rows with several
adapters are one call's work like all others. A row's result is bit for bit the same in any batch and on any number of
threads. Tested against `image_reference` and the method's reference. Needs `kernels.native` loaded.
"""

from enum import IntEnum

import torch
from torch import Tensor

from headmix_server.kernels.adapters.added_tokens import AddedInputs
from headmix_server.kernels.adapters.image_tables import ABSENT, TERM_INDEX, ImageTables, RowRoute


class Schedule(IntEnum):
    """How the work of a call is divided among threads; results are bit for bit the same. See native/schedule.h."""

    CHOOSE = 0
    ONE_THREAD = 1
    WHOLE_SEGMENTS = 2
    DIVIDED_SEGMENTS = 3


_SITES = ({"q", "k", "v"}, {"o"}, {"gate_up"}, {"down"})
"""The sites that each of the four calls covers."""


class NativeAdapters:
    """See `kernels.adapters.protocol.StepAdapters`. `added` is None if no row's token was added by an adapter.

    Inputs and projections are float32 on the CPU; their rows are contiguous, at any stride, and do not overlap;
    anything else raises RuntimeError, as do tables that point outside their arena. `tables` are the arguments of the
    native operations: the images' tables and the route's.
    """

    def __init__(
        self,
        tables: ImageTables,
        route: RowRoute,
        added: AddedInputs | None = None,
        schedule: Schedule = Schedule.CHOOSE,
    ) -> None:
        self._heads = (tables.base.num_heads, tables.base.num_kv_heads)
        self.tables = (
            *(tables.f32, tables.bf16, tables.offsets, tables.ranks, tables.scales, tables.stored_bf16),
            *(route.slots, route.scales, route.slot_starts, route.segment_starts, route.rows),
        )
        self._added = added
        self.schedule = int(schedule)
        self._active = _active_sites(tables.offsets, route.slots)
        self._ops = torch.ops.headmix

    def replace_embeddings(self, embeddings: Tensor) -> None:
        """See `StepAdapters`."""
        if self._added is not None:
            self._added.put(embeddings)

    def add_qkv(self, layer: int, x: Tensor, qkv: Tensor) -> None:
        """See `StepAdapters`."""
        if self._active[layer][0]:
            self._ops.add_qkv(*self.tables, layer, self.schedule, *self._heads, x, qkv)

    def add_o(self, layer: int, attention: Tensor, out: Tensor) -> None:
        """See `StepAdapters`."""
        if self._active[layer][1]:
            self._ops.add_o(*self.tables, layer, self.schedule, self._heads[0], attention, out)

    def add_gate_up(self, layer: int, x: Tensor, gate_up: Tensor) -> None:
        """See `StepAdapters`."""
        if self._active[layer][2]:
            self._ops.add_gate_up(*self.tables, layer, self.schedule, x, gate_up)

    def add_down(self, layer: int, inner: Tensor, out: Tensor) -> None:
        """See `StepAdapters`."""
        if self._active[layer][3]:
            self._ops.add_down(*self.tables, layer, self.schedule, inner, out)


def _active_sites(offsets: Tensor, slots: Tensor) -> list[list[bool]]:
    """Return, for every layer, which of the four calls have terms in any of the slots."""
    present = (offsets.index_select(0, slots)[..., 0] != ABSENT).any(dim=0)  # [layers, terms]
    return torch.stack(
        [
            present[:, [index for (site, _, _), index in TERM_INDEX.items() if site in sites]].any(dim=1)
            for sites in _SITES
        ],
        dim=1,
    ).tolist()
