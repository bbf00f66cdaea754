"""Tokens in and tokens out: the table of embedding rows and the head that scores the next token."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from headmix_server.models.weights import Checkpoint

HEAD = "lm_head.weight"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The embedding [vocab, D] and the head [vocab, D], which is the same tensor where it is tied."""

    embedding: Tensor
    head: Tensor

    @property
    def tied(self) -> bool:
        """Whether the rows that are read are those that score."""
        return self.head is self.embedding

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the embedding rows of token ids: [tokens] -> [tokens, D]."""
        return functional.embedding(tokens, self.embedding)

    def scores(self, hidden: Tensor) -> Tensor:
        """Return the logits of every token of the vocabulary: [rows, D] -> [rows, vocab]."""
        return functional.linear(hidden, self.head)


def take_vocabulary(checkpoint: Checkpoint, name: str, shape: tuple[int, int], *, tied: bool) -> Vocabulary:
    """Read the table `name` and its head, which a tied checkpoint may hold a second time."""
    embedding = checkpoint.take(name, shape)
    return Vocabulary(embedding, embedding if tied else checkpoint.take(HEAD, shape))
