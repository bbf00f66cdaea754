"""Tokens that adapters add to the vocabulary, as inputs of a step: embeddings missing from the base's table.

The device decides which row of the batch belongs to which adapter.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class AddedInputs:
    """The batch rows whose token was added by the row's own adapter, and those tokens' embeddings."""

    rows: Tensor  # [n]
    embeddings: Tensor  # [n, D]

    def put(self, embeddings: Tensor) -> None:
        """Replace these rows of the batch's token embeddings [tokens, D], in place."""
        embeddings.index_copy_(0, self.rows, self.embeddings)
