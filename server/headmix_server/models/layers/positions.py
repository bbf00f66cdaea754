"""The row of a learned position table for each token, where that is not simply its position."""

from collections.abc import Callable

import torch
from torch import Tensor

Positions = Callable[[Tensor, Tensor], Tensor]
"""Token ids and positions [tokens] of whole texts, one after another -> rows of the table [tokens]."""


def as_they_are(_: Tensor, positions: Tensor) -> Tensor:
    """BERT's rows: the positions themselves."""
    return positions


def after_padding(tokens: Tensor, positions: Tensor, padding: int) -> Tensor:
    """RoBERTa's rows: tokens are counted from `padding` + 1; padding tokens, if any, are not counted."""
    real = (tokens != padding).long()
    counted = real.cumsum(0)
    first = torch.arange(len(tokens), device=tokens.device) - positions  # the row where each token's text begins
    before = (counted - real).index_select(0, first)
    return (counted - before) * real + padding
