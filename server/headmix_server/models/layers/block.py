"""The shared layers: attention and MLP, each with its norm before (decoders) or after (BERT) it.

Families differ in the parts they supply. A block computes on [tokens, D] rows and knows nothing of sequences, slots or
ranks.
"""

from dataclasses import dataclass

from torch import Tensor

from headmix_server.kernels.adapters.protocol import StepAdapters
from headmix_server.kernels.attention.torch_sdpa import StepAttention
from headmix_server.kernels.row_ops import Angles
from headmix_server.models.layers.attention import SelfAttention
from headmix_server.models.layers.mlp import Mlp
from headmix_server.models.layers.norm import Norm


@dataclass(frozen=True, slots=True)
class PreNormBlock:
    """Each half reads the normalised states and adds to them; `*_out` norms (Gemma's) apply to what is added."""

    attention: SelfAttention
    mlp: Mlp
    attention_norm: Norm
    mlp_norm: Norm
    attention_out: Norm | None = None
    mlp_out: Norm | None = None

    def __call__(
        self, hidden: Tensor, attention: StepAttention, angles: Angles | None, adapters: StepAdapters | None
    ) -> Tensor:
        """Compute the layer: [tokens, D] -> [tokens, D]."""
        added = self.attention(self.attention_norm(hidden), attention, angles, adapters)
        hidden = hidden + (added if self.attention_out is None else self.attention_out(added))
        added = self.mlp(self.mlp_norm(hidden), adapters)
        return hidden + (added if self.mlp_out is None else self.mlp_out(added))


@dataclass(frozen=True, slots=True)
class PostNormBlock:
    """Each half reads the states directly, and the sum is normalised."""

    attention: SelfAttention
    mlp: Mlp
    attention_norm: Norm
    mlp_norm: Norm

    def __call__(self, hidden: Tensor, attention: StepAttention, adapters: StepAdapters | None) -> Tensor:
        """Compute the layer: [tokens, D] -> [tokens, D]."""
        hidden = self.attention_norm(hidden + self.attention(hidden, attention, None, adapters))
        return self.mlp_norm(hidden + self.mlp(hidden, adapters))
