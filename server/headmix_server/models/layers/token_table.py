"""The look-up of token embeddings: a table of rows [vocab, D], stored as narrowly as its format allows."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

_NARROW = (torch.bfloat16, torch.float16)


class TokenTable(Protocol):
    """Any form of the table."""

    @property
    def nbytes(self) -> int:
        """The memory it takes, in bytes."""
        ...

    def __call__(self, tokens: Tensor) -> Tensor:
        """Return the rows of token ids [tokens] as a new tensor [tokens, D], which the caller may write to."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class PlainTable:
    """Rows stored in their own precision and returned in the compute dtype."""

    rows: Tensor  # [vocab, D]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """See `TokenTable`."""
        return self.rows.nbytes

    def __call__(self, tokens: Tensor) -> Tensor:
        """See `TokenTable`."""
        return functional.embedding(tokens, self.rows).to(self.dtype)


def narrow_exactly(rows: Tensor) -> PlainTable:
    """Store rows in 16 bits if that is lossless, as for checkpoints published in 16 bits; else unchanged."""
    for dtype in _NARROW:
        narrow = rows.to(dtype)
        if torch.equal(narrow.to(rows.dtype), rows):
            return PlainTable(narrow, rows.dtype)
    return PlainTable(rows, rows.dtype)
