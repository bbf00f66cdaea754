"""The vocabulary as one row of a batch sees it: the base's ids, followed by those that the row's adapter adds.

A row whose adapter adds none has only the base's ids: an id beyond them, as input or output, is an error of that row.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from headmix_server.device.adapters.adapter_pool import Occupant
from headmix_server.kernels.adapters.added_tokens import AddedInputs


class OccupantSpan(NamedTuple):
    """`num_rows` rows from `first` on, run with a slot's occupant, or (None) with the base alone."""

    first: int
    num_rows: int
    occupant: Occupant | None


def vocabulary_size(base_size: int, occupant: Occupant | None) -> int:
    """Return how many ids a row may use."""
    added = None if occupant is None else occupant.added
    return base_size if added is None else base_size + added.shape[0]


def take_added(ids: list[int], spans: Iterable[OccupantSpan], base_size: int) -> AddedInputs | None:
    """Return the embeddings of the added tokens among a batch's ids; None if there are none.

    Every id is less than its own row's `vocabulary_size`. In `ids`, the added tokens are replaced by the base's last
    id, so that looking them up in the base's table is valid; those rows are replaced afterwards.
    """
    if max(ids) < base_size:
        return None
    rows: list[int] = []
    embeddings: list[Tensor] = []
    for first, count, occupant in spans:
        added = None if occupant is None else occupant.added
        if added is not None:
            own = [place for place in range(first, first + count) if ids[place] >= base_size]
            rows.extend(own)
            embeddings.extend(added[ids[place] - base_size] for place in own)
    for place in rows:
        ids[place] = base_size - 1
    stacked = torch.stack(embeddings)
    return AddedInputs(torch.tensor(rows, device=stacked.device), stacked)


def added_scores(hidden: Tensor, occupant: Occupant | None, *, tied_head: bool) -> Tensor | None:
    """Return the scores of the row's added tokens, [..., D] -> [..., n]; None if it cannot generate any.

    They are output rows only if the base's head is tied to its embeddings.
    """
    if occupant is None or occupant.added is None or not tied_head:
        return None
    return linear(hidden, occupant.added).float()


@dataclass(frozen=True, slots=True)
class AddedScores:
    """Scores of the rows' added tokens: [rows, the most of any row] float32, -inf beyond a row's count in `counts`."""

    scores: Tensor
    counts: Sequence[int]

    @classmethod
    def stack(cls, rows: Sequence[Tensor | None], device: torch.device) -> "AddedScores":
        """Stack the rows' scores [n]; None for a row that has none."""
        counts = [0 if scores is None else scores.numel() for scores in rows]
        stacked = torch.full((len(rows), max(counts, default=0)), -math.inf, dtype=torch.float32, device=device)
        for row, scores in enumerate(rows):
            if scores is not None:
                stacked[row, : scores.numel()] = scores
        return cls(stacked, counts)


def stack_added_scores(states: Tensor, occupants: Sequence[Occupant | None], *, tied_head: bool) -> AddedScores:
    """Return the scores of the added tokens that rows of states [rows, D] can generate with their occupants."""
    rows: list[Tensor | None] = []
    for _, group in groupby(occupants, key=id):
        same = list(group)
        scores = added_scores(states[len(rows) : len(rows) + len(same)], same[0], tied_head=tied_head)
        rows.extend([None] * len(same) if scores is None else scores.unbind())
    return AddedScores.stack(rows, states.device)
