"""A row of a step at its place in the batch, and selecting states."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headmix_server.core.runner import BatchRow
from headmix_server.device.adapters.adapter_pool import Occupant
from headmix_server.device.exchange import send
from headmix_server.kernels.attention.step_layout import Span


@dataclass(frozen=True, slots=True)
class Placed:
    """A row that takes part in a step: its first place in the ragged batch and its slot's occupant."""

    row: BatchRow
    first: int
    occupant: Occupant | None

    @property
    def rows(self) -> slice:
        """Its places in the batch."""
        return slice(self.first, self.first + self.row.count)

    @property
    def due(self) -> range:
        """The places after which a token is chosen: those of its last known token and of each draft."""
        end = self.first + self.row.count
        return range(end - 1 - len(self.row.drafts), end)

    def spans(self) -> Sequence[Span]:
        """Return its parts for attention: one, or, with drafts, one for the known tokens and one per draft.

        A place computed in its own part is rounded as it would be without drafts, and sees no later place.
        """
        row = self.row
        if not row.drafts:
            return (row,)
        known = _Part(row.start, row.count - len(row.drafts), row.blocks)
        return (known, *(_Part(position, 1, row.blocks) for position in range(row.known_end, row.end)))


@dataclass(frozen=True, slots=True)
class _Part:
    """See `Span`."""

    start: int
    count: int
    blocks: Sequence[int]


def take_rows(states: Tensor, places: Sequence[int]) -> Tensor:
    """Return the states [places, D] at ascending places of [tokens, D]."""
    if len(places) == len(states):
        return states
    return states.index_select(0, send(torch.tensor(places, dtype=torch.int64, device="cpu"), states.device))
