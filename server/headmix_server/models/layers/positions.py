"""Which row of a learned position table a token gets, where that is not simply its position."""

from collections.abc import Callable

import torch
from torch import Tensor

Positions = Callable[[Tensor, Tensor], Tensor]
"""Token ids and positions [tokens] of whole texts, one after another -> rows of the table [tokens]."""


def as_they_are(_: Tensor, positions: Tensor) -> Tensor:
    """BERT's: the position."""
    return positions


def after_padding(tokens: Tensor, positions: Tensor, padding: int) -> Tensor:
    """RoBERTa's: tokens are counted from `padding` + 1, a padding token, should a text hold one, is not counted."""
    real = (tokens != padding).long()
    counted = real.cumsum(0)
    first = torch.arange(len(tokens), device=tokens.device) - positions  # the row each token's text begins at
    before = (counted - real).index_select(0, first)
    return (counted - before) * real + padding
