"""The interface of a base, whatever its family."""

from typing import Protocol

from torch import Tensor

from headmix_server.kernels.adapters.protocol import StepAdapters
from headmix_server.kernels.attention.torch_sdpa import StepAttention
from headmix_server.models.config import ModelConfig


class Model(Protocol):
    """A frozen base."""

    @property
    def config(self) -> ModelConfig:
        """Its dimensions."""
        ...

    @property
    def generates(self) -> bool:
        """Whether it generates text. If not, it reads whole texts at once, in both directions, without a cache."""
        ...

    @property
    def tied_head(self) -> bool:
        """Whether the rows of the embedding table also score the next token; always False for an encoder."""
        ...

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attention: StepAttention,
        adapters: StepAdapters | None,
        types: Tensor | None = None,
    ) -> Tensor:
        """Return the final hidden states [tokens, D] of token ids and positions [tokens].

        `types` [tokens] is 1 for the tokens of a pair's second text and 0 for all others; None: all are 0. Bases
        without token types ignore it.
        """
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the scores of every token of the vocabulary: [rows, D] -> [rows, vocab].

        Raises:
            RuntimeError: the base does not generate.
        """
        ...
