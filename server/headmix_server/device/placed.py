"""A row of a step where it lies in the batch, and taking states of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headmix_server.core.runner import BatchRow
from headmix_server.device.adapters.adapter_pool import Occupant
from headmix_server.device.exchange import send


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


def take_rows(states: Tensor, places: Sequence[int]) -> Tensor:
    """Return the states [places, D] at ascending places of [tokens, D]."""
    if len(places) == len(states):
        return states
    return states.index_select(0, send(torch.tensor(places, dtype=torch.int64, device="cpu"), states.device))
