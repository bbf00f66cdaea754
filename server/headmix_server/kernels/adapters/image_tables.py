"""What a fast kernel reads of the adapters on a device: their images in flat memory, and the slot of each row.

An image is one adapter's tensors in one contiguous run of an arena; the tables give the offset of each term in each
layer. Owns the meaning of these numbers; knows neither who writes them (`device.adapters.adapter_pool`) nor how they
are multiplied.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from headmix_adapters.config import BaseShape
from headmix_adapters.sites import TERMS
from headmix_server.kernels.adapters.slot_span import SlotSpan, SlotUse

TERM_INDEX = {key: index for index, key in enumerate(TERMS)}
"""Maps a term's (site, part, input) to its index in the tables, in the order of the table of shapes."""

ABSENT = -1
"""The offset of a tensor that the slot's adapter does not have in that layer."""


@dataclass(frozen=True, slots=True)
class ImageTables:
    """The images of all slots.

    A slot's tensors are in the arena of their dtype, contiguous and each in rank-major order, so that shrinking is a
    dot product and expanding an addition of contiguous rows. With r the term's rank in the slot:

    * head terms: A [heads, r, in], B [heads, r, out], where in is D for the terms that read x, else P, and out is D
      for site o, else P;
    * shared terms: A [r, in], B [r, out];
    * bias [out of the site], present in all layers or in none.

    The scale multiplies A's product and the bias; it is not folded into either tensor.
    """

    base: BaseShape
    f32: Tensor  # [n] float32; may be empty
    bf16: Tensor  # [m] bfloat16; may be empty
    offsets: Tensor  # [slots, layers, terms, 3] int64: element offsets of A, B and bias in the slot's arena, or ABSENT
    ranks: Tensor  # [slots, terms] int32, 0 if the slot's adapter has no such term
    scales: Tensor  # [slots, terms] float32
    stored_bf16: Tensor  # [slots] bool: which arena is the slot's


@dataclass(frozen=True, slots=True)
class RowRoute:
    """The rows of a step by their adapters. A row is in at most one segment; rows of the base alone cost nothing.

    Segment s holds rows[segment_starts[s] : segment_starts[s + 1]]. They run with slots[slot_starts[s] :
    slot_starts[s + 1]], one or more, whose terms are multiplied by the scales and added up in this order. No two
    segments have the same slots with the same scales.
    """

    slots: Tensor  # [slots of all segments] int32
    scales: Tensor  # [slots of all segments] float32
    slot_starts: Tensor  # [segments + 1] int32
    segment_starts: Tensor  # [segments + 1] int32
    rows: Tensor  # [routed rows] int32: rows of the batch, ascending within a segment


def build_row_route(spans: Sequence[SlotSpan], device: torch.device | None = None) -> RowRoute | None:
    """Group spans of batch rows by their adapters; None if there is nothing to route.

    Raises:
        ValueError: two spans share a row.
    """
    found = sorted((span for span in spans if span.num_rows), key=lambda span: span.first)
    if not found:
        return None
    if any(span.rows.stop > following.first for span, following in pairwise(found)):
        raise ValueError("a row belongs to two spans")
    by_uses: dict[tuple[SlotUse, ...], list[int]] = {}
    for span in found:
        by_uses.setdefault(span.uses, []).extend(span.rows)
    uses: list[SlotUse] = []
    slot_starts, starts, rows = [0], [0], list[int]()
    for own in sorted(by_uses):
        uses += own
        slot_starts.append(len(uses))
        rows += by_uses[own]
        starts.append(len(rows))

    def on_device(numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int32, device=device)

    return RowRoute(
        slots=on_device([use.slot for use in uses]),
        scales=torch.tensor([use.scale for use in uses], dtype=torch.float32, device=device),
        slot_starts=on_device(slot_starts),
        segment_starts=on_device(starts),
        rows=on_device(rows),
    )
