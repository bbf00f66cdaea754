"""The look-up of token embeddings: a table of rows [vocab, D], kept as narrow as its format allows."""

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
        """The memory it takes."""
        ...

    def __call__(self, tokens: Tensor) -> Tensor:
        """Return the rows of token ids [tokens] as a new tensor [tokens, D], which the caller may write to."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class PlainTable:
    """Rows in their own precision, handed out in the computing dtype."""

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
    """Keep rows in 16 bits where that loses nothing, as with checkpoints published in 16 bits; else as they are."""
    for dtype in _NARROW:
        narrow = rows.to(dtype)
        if torch.equal(narrow.to(rows.dtype), rows):
            return PlainTable(narrow, rows.dtype)
    return PlainTable(rows, rows.dtype)
