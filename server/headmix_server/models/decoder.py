"""A causal base: embeddings, pre-norm layers, final norm and head. The families supply the parts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from headmix_server.kernels.adapters.protocol import StepAdapters
from headmix_server.kernels.attention.torch_sdpa import StepAttention
from headmix_server.kernels.row_ops import Angles
from headmix_server.models.config import ModelConfig
from headmix_server.models.layers.block import PreNormBlock
from headmix_server.models.layers.norm import Norm
from headmix_server.models.layers.rotary import Rotary
from headmix_server.models.layers.vocabulary import Vocabulary
from headmix_server.models.native_layers import whole_step


@dataclass(frozen=True, slots=True)
class Layer:
    """A block and the rotary embedding of its positions; None if positions are learned."""

    block: PreNormBlock
    rotary: Rotary | None


class Decoder:
    """See `models.model.Model`.

    `positions` is a table [positions, D] of learned position embeddings, `embedding_scale` a factor applied to the
    token embeddings (Gemma's); most families have neither.
    """

    generates = True

    def __init__(
        self,
        config: ModelConfig,
        vocabulary: Vocabulary,
        layers: Sequence[Layer],
        final_norm: Norm,
        *,
        positions: Tensor | None = None,
        embedding_scale: float | None = None,
    ) -> None:
        self.config = config
        self.tied_head = vocabulary.tied
        self._vocabulary = vocabulary
        self._layers = tuple(layers)
        self._final_norm = final_norm
        self._positions = positions
        self._embedding_scale = embedding_scale
        self._whole_step = whole_step([(layer.block, layer.rotary) for layer in layers])

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attention: StepAttention,
        adapters: StepAdapters | None,
        types: Tensor | None = None,
    ) -> Tensor:
        """Return the final normalised hidden states [tokens, D]; decoders have no token types."""
        hidden = self._vocabulary.embed(tokens)
        if adapters is not None:
            adapters.replace_embeddings(hidden)
        if self._embedding_scale is not None:
            hidden = hidden * float(torch.tensor(self._embedding_scale, dtype=hidden.dtype, device="cpu"))
        if self._positions is not None:
            hidden = hidden + functional.embedding(positions, self._positions)
        if self._whole_step is not None and self._whole_step.run(hidden, positions, attention, adapters):
            return self._final_norm(hidden)
        rotaries = {layer.rotary for layer in self._layers if layer.rotary is not None}
        angles: dict[Rotary | None, Angles] = {rotary: rotary.at(positions, hidden.dtype) for rotary in rotaries}
        for layer in self._layers:
            hidden = layer.block(hidden, attention, angles.get(layer.rotary), adapters)
        return self._final_norm(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the scores of every token of the vocabulary."""
        return self._vocabulary.scores(hidden)
