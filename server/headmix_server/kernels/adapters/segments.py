"""The routing of one step: the slots that each row of the batch runs with.

A route groups rows into segments: every segment belongs to one slot and is padded to a common width, so the deltas of
all adapters are a handful of batched products. A row with several adapters is in several segments. It is rebuilt from
the leases for every step and never kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headmix_server.kernels.adapters.slot_span import SlotSpan, SlotUse

MAX_SEGMENT_WIDTH = 32
"""The most rows in a segment: long prefills are cut, so that they do not pad every decode row to their length."""


@dataclass(frozen=True, slots=True)
class Route:
    """Rows grouped by slot. Rows of the base alone are in no segment and cost nothing."""

    slots: Tensor  # [segments] slot of each segment
    gather: Tensor  # [segments * width] batch row at each place; padding repeats the segment's last row
    places: Tensor | None  # [routed rows] places that are not padding; None if there is no padding
    rows: Tensor  # [routed rows] batch row of each of those places
    width: int
    scales: Tensor | None = None  # [segments] float32: what each segment's results are multiplied by; None: 1

    @property
    def num_segments(self) -> int:
        """The number of segments."""
        return self.slots.numel()

    def take(self, inputs: Tensor) -> Tensor:
        """Gather batch rows into segments: [tokens, ...] -> [segments, width, ...]."""
        return inputs.index_select(0, self.gather).reshape(self.num_segments, self.width, *inputs.shape[1:])

    def add(self, deltas: Tensor, out: Tensor) -> None:
        """Add segment results to their batch rows in place: [segments, width, dim] onto [tokens, dim]."""
        if self.scales is not None:
            deltas = deltas * self.scales.to(deltas.dtype)[:, None, None]
        flat = deltas.reshape(-1, deltas.shape[-1])
        out.index_add_(0, self.rows, flat if self.places is None else flat.index_select(0, self.places))


def build_route(spans: Sequence[SlotSpan], device: torch.device | None = None) -> Route | None:
    """Group spans of batch rows into segments; None if there is nothing to route."""
    by_use: dict[SlotUse, list[int]] = {}
    for span in spans:
        for use in span.uses:
            by_use.setdefault(use, []).extend(span.rows)
    if not by_use:
        return None
    width = min(MAX_SEGMENT_WIDTH, max(len(rows) for rows in by_use.values()))
    uses: list[SlotUse] = []
    gather: list[int] = []
    places: list[int] = []
    for use, rows in by_use.items():
        for start in range(0, len(rows), width):
            segment = rows[start : start + width]
            places.extend(range(len(gather), len(gather) + len(segment)))
            gather.extend(segment + [segment[-1]] * (width - len(segment)))
            uses.append(use)
    padded = len(places) != len(gather)
    return Route(
        slots=torch.tensor([use.slot for use in uses], device=device),
        gather=torch.tensor(gather, device=device),
        places=torch.tensor(places, device=device) if padded else None,
        rows=torch.tensor([gather[place] for place in places], device=device),
        width=width,
        scales=_scales(uses, device),
    )


def _scales(uses: Sequence[SlotUse], device: torch.device | None) -> Tensor | None:
    if all(use.scale == 1 for use in uses):
        return None
    return torch.tensor([use.scale for use in uses], dtype=torch.float32, device=device)
