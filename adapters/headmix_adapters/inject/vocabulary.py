"""The rows for tokens an adapter adds: input embeddings, and output rows if the base's head is tied to them.

Ids from the base's vocabulary size up belong to the adapter; the base's own table is never resized or written.
"""

import torch
from torch import Tensor, nn


class AddedRows(nn.Module):
    """Holds the trainable rows, (added tokens, D), shared by the input and the output side."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows)


class ExtendedEmbedding(nn.Module):
    """The base's embedding for its own ids, the added rows for the ids above.

    A family that scales its embeddings (Gemma) scales the added rows too.
    """

    def __init__(self, embedding: nn.Embedding, added: AddedRows) -> None:
        super().__init__()
        self.embedding = embedding
        self.added = added

    def forward(self, ids: Tensor) -> Tensor:
        """[...] -> [..., D]."""
        first_added = self.embedding.num_embeddings
        own: Tensor = self.embedding(ids.clamp(max=first_added - 1))
        extra = nn.functional.embedding((ids - first_added).clamp(min=0), self.added.rows).to(own.dtype)
        scale = getattr(self.embedding, "embed_scale", None)
        if isinstance(scale, Tensor):
            extra = extra * scale.to(own.dtype)
        return torch.where((ids >= first_added).unsqueeze(-1), extra, own)


class ExtendedHead(nn.Module):
    """The base's output scores followed by those of the added tokens."""

    def __init__(self, head: nn.Module, added: AddedRows) -> None:
        super().__init__()
        self.head = head
        self.added = added

    def forward(self, states: Tensor) -> Tensor:
        """[..., D] -> [..., vocabulary + added]."""
        extra = states @ self.added.rows.T.to(states.dtype)
        return torch.cat([self.head(states), extra], dim=-1)
